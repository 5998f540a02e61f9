-- +goose Up
create table shop.fresh (id bigint primary key, a text);
create index orders_at on shop.orders (at);
create unique index on orders (id);
create index fresh_a on shop.fresh (a);
create temp table aside (id int);
create index on aside (id);
create table shop.parts (id int, at date) partition by range (at);

-- +goose Down
select 1;
