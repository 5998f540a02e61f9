-- +goose Up
create table shop.fresh (id bigint primary key, a text);
drop table shop.orders, shop.fresh;
drop sequence if exists shop.numbers;

-- +goose Down
select 1;
