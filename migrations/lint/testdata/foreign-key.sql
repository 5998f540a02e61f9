-- +goose Up
create table shop.fresh (id bigint primary key, a text);
alter table shop.orders
    add constraint buyer foreign key (buyer) references shop.people (id),
    add constraint seller foreign key (seller) references shop.people (id) not valid;
alter table shop.orders add column rival bigint references shop.people;
alter table shop.orders add column shop bigint default 1 references shop.shops;
alter table shop.fresh add foreign key (id) references shop.people (id);

-- +goose Down
select 1;
