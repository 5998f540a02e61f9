-- +goose Up
create table shop.fresh (id bigint primary key, a text);
alter table shop.orders
    alter column note set not null,
    alter column total set default 0;
alter table shop.fresh alter column a set not null;

-- +goose Down
select 1;
