-- +goose Up
alter table freehold.predictions add column mine text;
create view shop.seen as select id from freehold.predictions;
create table shop.notes (id uuid references freehold.predictions (id));
alter table shop.orders add constraint seen foreign key (id) references freehold.predictions (id) not valid;
drop function freehold.seal_audit(int);
grant usage on schema freehold to freehold_tenant;
grant select on all tables in schema freehold to freehold_tenant;
alter default privileges in schema freehold grant select on tables to freehold_tenant;
comment on schema freehold is 'ours';
create schema product;
delete from product.schema_version where version_id = 3;
alter table shop.orders owner to freehold_tenant;
grant select on shop.orders to freehold_sealer;
set local role freehold_sealer;
alter table shop.orders set schema freehold;
-- +goose StatementBegin
create function shop.peek() returns bigint language sql as $$
    select count(*) from freehold.predictions
$$;
-- +goose StatementEnd

-- What is one's own may be given to tenants.
grant select on shop.orders to freehold_tenant;
create table shop.freehold (freehold text, id text);
create policy own on shop.freehold to freehold_tenant using (freehold = current_user);
select freehold.id from shop.freehold as freehold;

-- +goose Down
select 1;
drop table freehold.predictions;
