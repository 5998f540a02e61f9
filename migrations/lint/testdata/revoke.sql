-- +goose Up
create table shop.fresh (id bigint primary key, a text);
revoke select on shop.orders from freehold_tenant;
revoke all on shop.fresh from public;
revoke usage on schema shop from freehold_tenant;

-- +goose Down
select 1;
