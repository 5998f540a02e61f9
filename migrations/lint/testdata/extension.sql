-- +goose Up
create extension if not exists citext;
alter extension citext update;
drop extension hstore;

-- +goose Down
select 1;
