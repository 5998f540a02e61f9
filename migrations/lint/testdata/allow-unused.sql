-- freehold:allow truncate small
-- +goose Up
-- freehold:allow drop-table nobody uses it
create table shop.a (id int);
-- freehold:allow drop-column has no statement below it

-- +goose Down
select 1;
