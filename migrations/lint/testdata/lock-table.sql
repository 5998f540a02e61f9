-- +goose Up
lock table shop.orders in share mode;

-- +goose Down
select 1;
