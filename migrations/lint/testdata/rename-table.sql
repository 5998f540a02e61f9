-- +goose Up
create table shop.fresh (id bigint primary key, a text);
alter table shop.orders rename to purchases;
alter view shop.seen set schema other;
alter table shop.fresh rename to stale;
alter table shop.stale rename to staler;
drop table shop.staler;

-- +goose Down
select 1;
