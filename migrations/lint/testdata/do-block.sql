-- +goose Up
-- +goose StatementBegin
do $$
begin
    execute 'drop table shop.orders';
end $$;
-- +goose StatementEnd

-- +goose Down
select 1;
