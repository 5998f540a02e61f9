-- +goose Up
create type shop.t as enum ('a');
drop type shop.t;
drop type shop.mood;
drop domain code;

-- +goose Down
select 1;
