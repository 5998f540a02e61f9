-- +goose Up
drop function shop.f(int), shop.g;
drop procedure p;

-- +goose Down
select 1;
