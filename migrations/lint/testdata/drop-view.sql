-- +goose Up
create view shop.one as select 1;
drop view shop.one, shop.two;
drop materialized view shop.three;

-- +goose Down
select 1;
