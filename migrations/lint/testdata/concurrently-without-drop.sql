-- +goose NO TRANSACTION
-- +goose Up
-- Together they are one transaction.
drop index concurrently if exists shop.orders_by; create index concurrently orders_by on shop.orders (by);
create index concurrently orders_at on shop.orders (at);

-- +goose Down
select 1;
