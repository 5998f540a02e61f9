-- +goose Up
create index concurrently orders_at on shop.orders (at);
drop index concurrently shop.orders_by;
reindex index concurrently shop.orders_at;
alter table shop.parts detach partition shop.parts_1 concurrently;
vacuum shop.orders;
analyze shop.orders;

-- +goose Down
select 1;
drop index concurrently shop.orders_at;
