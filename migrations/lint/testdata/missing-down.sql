-- +goose Up
create table shop.a (id int);

-- +goose Down
-- nothing
