-- +goose Up
alter function shop.f(int) rename to g;
alter type shop.mood set schema other;
alter index shop.orders_at rename to orders_when;

-- +goose Down
select 1;
