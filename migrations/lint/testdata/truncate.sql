-- +goose Up
create table shop.fresh (id bigint primary key, a text);
truncate shop.orders, shop.fresh;

-- +goose Down
select 1;
