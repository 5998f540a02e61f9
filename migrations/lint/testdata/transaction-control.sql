-- +goose Up
begin;
create table shop.a (id int);
commit;
savepoint a;

-- +goose Down
select 1;
rollback;
