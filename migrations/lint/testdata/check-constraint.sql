-- +goose Up
create table shop.fresh (id bigint primary key, a text);
alter table shop.orders add constraint positive check (total > 0);
alter table shop.orders add constraint later check (total > 0) not valid;
alter table shop.orders add column n int check (n > 0);
alter table shop.fresh add check (id > 0);

-- +goose Down
select 1;
