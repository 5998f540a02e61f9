-- +goose Up
alter type shop.mood rename value 'ok' to 'fine';
alter type shop.mood add value 'good';

-- +goose Down
select 1;
