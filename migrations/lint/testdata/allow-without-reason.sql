-- freehold:allow
-- +goose Up
-- freehold:allow drop-table
drop table shop.orders;
-- freehold:allow drop-tables nobody uses it
drop table shop.people;

-- +goose Down
select 1;
