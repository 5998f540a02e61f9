-- +goose Up
create table shop.fresh (id bigint primary key, a text);
alter table shop.orders add column note text not null;
alter table shop.orders add column note2 text not null default null;
alter table shop.orders add column fine text not null default '';
alter table shop.fresh add column note text not null;

-- +goose Down
select 1;
