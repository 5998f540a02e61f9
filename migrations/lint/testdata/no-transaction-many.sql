-- +goose NO TRANSACTION
-- +goose Up
create table shop.a (id int);
create table if not exists shop.b (id int);
alter table shop.orders add column c text;
alter table shop.orders add column if not exists d text;
drop table if exists shop.c;
create table shop.c (id int);
insert into shop.a values (1);
insert into shop.a values (1) on conflict do nothing;
alter table shop.orders drop constraint if exists e;
alter table shop.orders add constraint e check (d is not null) not valid;
alter type shop.mood add value if not exists 'fine';
create or replace view shop.v as select 1 as one;
alter table shop.orders rename constraint e to f;

-- +goose Down
select 1;
