-- +goose Up
alter table shop.orders add primary key (id);
alter table shop.orders add constraint orders_pkey primary key using index orders_id;

-- +goose Down
select 1;
