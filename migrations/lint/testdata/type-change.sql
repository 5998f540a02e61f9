-- +goose Up
alter table shop.orders alter column note type varchar(20);
alter type shop.point alter attribute x type bigint;

-- +goose Down
select 1;
