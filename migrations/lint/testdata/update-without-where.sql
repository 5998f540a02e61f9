-- +goose Up
create table shop.fresh (id bigint primary key, a text);
update shop.orders set note = '';
update shop.fresh set a = '';
delete from shop.orders where true;
update shop.orders set note = '' where note is null;
with gone as (delete from shop.people returning id) insert into shop.fresh select id from gone;

-- +goose Down
select 1;
