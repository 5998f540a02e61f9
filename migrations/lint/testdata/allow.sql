-- This is a demonstration.
-- freehold:allow missing-down nothing could bring the rows back
-- freehold:allow drop-column it was never read
-- +goose Up
-- freehold:allow drop-table nobody uses it
drop table shop.orders;

alter table shop.people drop column a;
-- freehold:allow index-not-concurrently some ten rows
-- freehold:allow set-not-null some ten rows

create index people_b on shop.people (b);
-- Only the statement right below is allowed.
create index people_c on shop.people (c);
alter table shop.people
    -- freehold:allow set-not-null some ten rows
    alter column c set not null;
