-- +goose Up
create table shop.fresh (id bigint primary key, a text);
insert into shop.fresh (id) values (1);
insert into shop.fresh (id) select g from generate_series(2, 9) g;
update shop.orders set note = '' where note is null;
alter table shop.orders add column code text;
insert into shop.fresh (id)
select o.id from shop.orders o join shop.people p on p.id = o.buyer;
create table shop.copy as select id from shop.orders;
merge into shop.orders o using shop.fresh f on f.id = o.id when matched then update set note = f.a;

-- +goose Down
select 1;
