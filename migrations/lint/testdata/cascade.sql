-- +goose Up
create view shop.v as select 1;
drop view shop.v cascade;

-- +goose Down
select 1;
