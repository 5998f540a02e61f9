-- +goose Up
create table shop.fresh (id bigint primary key, a text);
drop index shop.orders_at;
create index fresh_a on shop.fresh (a);
drop index shop.fresh_a;

-- +goose Down
select 1;
