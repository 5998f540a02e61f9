-- +goose Up
alter table shop.parts attach partition shop.parts_1 for values from (1) to (2);
create table shop.parts_2 partition of shop.parts for values from (2) to (3);
create table shop.parts_3 (id int);
alter table shop.parts attach partition shop.parts_3 for values from (3) to (4);
create table shop.others (id int) partition by range (id);
create table shop.others_1 partition of shop.others for values from (1) to (2);

-- +goose Down
select 1;
