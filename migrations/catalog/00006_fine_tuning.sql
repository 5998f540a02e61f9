-- +goose Up
-- Work that a tenant has asked for and that takes its time: which tenant's, and who
-- is at it. What it is about is in the tenant's database.

create table work_queue (
    id           uuid primary key,            -- the job's in the tenant's database
    tenant       uuid not null references tenants (id) on delete cascade,
    trainer      text not null,               -- what a worker needs to have
    stage        text not null default 'validate' check (stage in ('validate', 'train')),
    state        text not null default 'waiting' check (state in ('waiting', 'running')),
    cancel       boolean not null default false,
    token        bigint  not null default 0,  -- each taker gets the next
    worker       text    not null default '',
    attempts     integer not null default 0,  -- of this stage
    error        text    not null default '', -- of the last one: for operators, without content
    run_at       timestamptz not null default now(),
    lease_until  timestamptz,
    heartbeat_at timestamptz,
    created_at   timestamptz not null default now()
);
create index work_queue_tenant on work_queue (tenant, created_at);
create index work_queue_due on work_queue (run_at) where state = 'waiting';
create index work_queue_leases on work_queue (lease_until) where state = 'running';

-- When each tenant last had a turn: the next is whose turn lies furthest back.
create table work_turns (
    tenant    uuid primary key references tenants (id) on delete cascade,
    turned_at timestamptz not null default now()
);

-- How a model is fine-tuned; empty: it isn't.
-- freehold:allow check-constraint these tables have a row for each model and each tenant: checking them takes a moment
alter table models add column trainer text not null default ''
    check (trainer = '' or trainer in ('builtin', 'openai') or trainer ~ '^command:[a-z0-9][a-z0-9-]{0,62}$');

-- freehold:allow check-constraint as above
alter table tenant_config
    add column fine_tuning_running_limit integer not null default 2 check (fine_tuning_running_limit >= 0),
    add column fine_tuning_queue_limit   integer not null default 20 check (fine_tuning_queue_limit >= 0),
    add column file_storage_limit        bigint  not null default 10737418240 check (file_storage_limit >= 0); -- bytes

grant select, insert, update, delete on work_queue, work_turns to freehold_catalog;

-- +goose Down
alter table tenant_config drop column fine_tuning_running_limit, drop column fine_tuning_queue_limit, drop column file_storage_limit;
alter table models drop column trainer;
drop table work_turns, work_queue;
