-- +goose Up
alter domain shop.code add constraint short check (length(value) < 9);
alter domain shop.code add constraint long check (length(value) > 2) not valid;
alter domain shop.code set not null;
create domain shop.other as text;
alter domain shop.other add check (value <> '');

-- +goose Down
select 1;
