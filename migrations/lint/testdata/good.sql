-- Orders, and who made them.
-- +goose Up
create schema shop;
grant usage on schema shop to freehold_tenant;
set local search_path = shop;

create table orders (
    id         uuid primary key default gen_random_uuid(),
    buyer      uuid not null,
    note       text not null default '',
    created_at timestamptz not null default now(),
    check (length(note) < 1000)
);
create index on orders (created_at);
alter table shop.orders add constraint once unique (buyer, created_at);
alter table orders alter column note drop default;
insert into shop.orders (buyer) values ('00000000-0000-0000-0000-000000000000');
update orders set note = 'the first';
grant select, insert, update, delete on shop.orders to freehold_tenant;

-- Another table is in use: nothing here touches its rows.
set local search_path = public;
alter table orders
    add column code text not null default 'a, b',
    add column seen timestamptz default now(),
    add constraint coded check (code <> '') not valid;

-- +goose StatementBegin
create function shop.total(p_buyer uuid) returns bigint
language plpgsql stable as $$
begin
    return (select count(*) from shop.orders where buyer = p_buyer);
end
$$;
-- +goose StatementEnd

-- +goose Down
drop table shop.orders cascade;
drop schema shop;
