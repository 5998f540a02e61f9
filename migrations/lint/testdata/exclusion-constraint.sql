-- +goose Up
alter table shop.rooms add constraint once exclude using gist (room with =, at with &&);

-- +goose Down
select 1;
