-- +goose Up
alter schema shop rename to store;

-- +goose Down
select 1;
