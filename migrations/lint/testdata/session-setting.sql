-- +goose Up
set lock_timeout = '2s';
set local statement_timeout = '5s';
set search_path = shop;
set role somebody;
select set_config('lock_timeout', '2s', false), set_config('work_mem', '1MB', true);
reset lock_timeout;
set transaction isolation level serializable;

-- +goose Down
select 1;
set lock_timeout = '1s';
