-- +goose NO TRANSACTION
-- +goose Up
create index concurrently if not exists orders_at on shop.orders (at);
drop index concurrently if exists shop.orders_by;
create index concurrently if not exists orders_by on shop.orders (by);

-- +goose Down
select 1;
