-- +goose Up
create table shop.fresh (id bigint primary key, a text);
create trigger watch before insert on shop.orders for each row execute function shop.watch();
drop trigger old on shop.orders;
create rule quiet as on delete to shop.orders do instead nothing;
create trigger watch before insert on shop.fresh for each row execute function shop.watch();

-- +goose Down
select 1;
