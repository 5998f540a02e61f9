-- +goose Up
alter table shop.orders add constraint positive check (total > 0) not valid;
alter table shop.orders validate constraint positive;
alter table shop.orders validate constraint earlier;

-- +goose Down
select 1;
