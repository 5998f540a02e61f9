-- +goose Up
-- +goose StatementBegin
create function shop.risky() returns int language sql security definer as $$ select 1 $$;
-- +goose StatementEnd
create function shop.sound() returns int language sql security definer set search_path = pg_catalog as 'select 1';
alter function shop.old() security definer;
alter function shop.old() security definer set search_path = pg_catalog, pg_temp;

-- +goose Down
select 1;
