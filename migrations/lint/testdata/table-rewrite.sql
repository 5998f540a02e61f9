-- +goose Up
create table shop.fresh (id bigint primary key, a text);
alter table shop.orders
    alter column total type bigint,
    add column token uuid default gen_random_uuid(), -- each row another
    add column number bigserial,
    add column counted bigint generated always as identity,
    add column twice bigint generated always as (total * 2) stored;
alter table shop.orders set unlogged;
alter table shop.orders set access method heap2;
alter table shop.orders set tablespace fast;
alter table shop.orders alter column twice set expression as (total * 3);
cluster shop.orders using orders_pkey;
alter table all in tablespace slow set tablespace fast;
create domain shop.positive as int check (value > 0);
alter table shop.orders add column items shop.positive;
alter table shop.orders add column secret text default shop.unknown();

-- None of these writes a table anew.
alter table shop.fresh add column n bigserial, alter column a type int using a::int;
alter table shop.orders add column note text not null default '', add column at timestamptz default now();
alter table shop.orders add column utc timestamp default (now() at time zone 'utc');

-- +goose Down
select 1;
