-- +goose Up
create schema other;
drop schema shop, other;

-- +goose Down
select 1;
