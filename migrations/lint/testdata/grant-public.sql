-- +goose Up
grant select on shop.orders to freehold_tenant, public;
alter default privileges in schema shop grant select on tables to public;

-- +goose Down
select 1;
