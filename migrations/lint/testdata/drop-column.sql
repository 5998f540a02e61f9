-- +goose Up
create table shop.fresh (id bigint primary key, a text);
alter table shop.orders
    drop column note,
    drop if exists total;
alter table shop.fresh drop column a;

-- +goose Down
select 1;
