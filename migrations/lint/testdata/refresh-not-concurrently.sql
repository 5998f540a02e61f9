-- +goose Up
refresh materialized view shop.totals;
refresh materialized view concurrently shop.totals;
create materialized view shop.other as select 1 as one;
refresh materialized view shop.other;

-- +goose Down
select 1;
