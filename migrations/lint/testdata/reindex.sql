-- +goose Up
reindex index shop.orders_at;
reindex table shop.orders;
reindex schema shop;

-- +goose Down
select 1;
