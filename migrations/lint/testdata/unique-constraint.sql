-- +goose Up
alter table shop.orders add constraint one unique (number);
alter table shop.orders add column code text unique;
alter table shop.orders add constraint fine unique using index orders_number;

-- +goose Down
select 1;
