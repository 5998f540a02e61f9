-- +goose Up
create role clerk login password 'hunter2';
alter role clerk set work_mem = '1MB';
drop role if exists clerk;
grant clerk to freehold_tenant;
alter system set work_mem = '1MB';
create database other;
alter database other set work_mem = '1MB';
comment on database other is 'mine';
grant connect on database other to clerk;
drop owned by clerk;
create tablespace fast location '/fast';

-- +goose Down
select 1;
drop role clerk;
