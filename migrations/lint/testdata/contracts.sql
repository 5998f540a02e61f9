-- freehold:contracts 3
-- +goose Up
drop table shop.orders;
alter table shop.people drop column a;
alter table shop.people rename b to c;
alter table shop.people alter column c type bigint;
revoke select on shop.people from freehold_tenant;

-- +goose Down
select 1;
