-- +goose Up
create table shop.fresh (id bigint primary key, a text);
alter table shop.orders rename column note to remark;
alter table shop.fresh rename a to b;

-- +goose Down
select 1;
