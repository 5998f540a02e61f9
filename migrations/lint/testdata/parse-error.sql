-- +goose Up
alter table shop.orders add colum note text;

create function shop.f() returns int language plpgsql as $$
begin
    return 1;
end $$;

-- +goose StatementBegin
select 'é', from where;
-- +goose StatementEnd
-- +goose StatementEnd

-- +goose Down
select 1;
selec 1;
