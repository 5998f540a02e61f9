-- +goose Up
-- One schema change over many databases: what is to be done, who is at it, and
-- what became of each tenant.

-- Versions of the product's own tables, beside Freehold's. schema_needs is the
-- lowest latest version that a binary may have to serve the tenant's database:
-- a migration that the release before it can live with leaves it as it was.
alter table tenants
    add column product_version bigint not null default 0,
    add column schema_needs    bigint not null default 0;
alter table ready_databases
    add column product_version bigint not null default 0,
    add column schema_needs    bigint not null default 0;
-- freehold:allow index-not-concurrently tenants has a row for each tenant: thousands, not millions
create index tenants_state_product on tenants (state, product_version);

-- The range of Freehold's tenant schemas that a node serves; 0: it didn't say.
alter table nodes
    add column schema_min bigint not null default 0,
    add column schema_max bigint not null default 0;

-- Each migration as it was when it was first rolled out: one that was edited after
-- a database has it is refused. The product's have their text here, so that every
-- process that makes or migrates databases has them; Freehold's own are in binaries.
create table migration_files (
    stream    text   not null check (stream in ('freehold', 'product')),
    version   bigint not null check (version > 0),
    name      text   not null,
    sha256    bytea  not null check (length(sha256) = 32),
    body      text   not null default '',
    added_at  timestamptz not null default now(),
    primary key (stream, version)
);

create table rollouts (
    id           uuid primary key,
    stream       text not null check (stream in ('freehold', 'product')),
    target       bigint not null check (target > 0),
    actor        text not null,
    options      jsonb not null,
    state        text not null default 'running' check (state in
                   ('running', 'halted', 'partial', 'done', 'aborted')),
    wave         integer not null default 0,         -- that is being done; from 0
    reason       text not null default '',           -- why it was halted or aborted
    -- Who leads has the last number; targets that were taken under an older one can
    -- be taken anew.
    token        bigint not null default 0,
    worker       text not null default '',
    lease_until  timestamptz,
    heartbeat_at timestamptz,
    deadline     timestamptz,
    created_at   timestamptz not null default now(),
    ended_at     timestamptz
);
-- One at a time for a stream, until it is done or aborted.
create unique index rollouts_open on rollouts (stream) where state in ('running', 'halted', 'partial');
create index rollouts_newest on rollouts (created_at);

create table rollout_waves (
    rollout     uuid not null references rollouts (id) on delete cascade,
    n           integer not null,
    name        text not null,                       -- canary, 1%, …
    begun_at    timestamptz,
    migrated_at timestamptz,                         -- none of its targets was left to do
    passed_at   timestamptz,                         -- soak and gate are behind it
    health      jsonb not null default '{}',         -- what the gate saw
    primary key (rollout, n)
);

create table rollout_targets (
    rollout      uuid not null references rollouts (id) on delete cascade,
    tenant       uuid not null references tenants (id) on delete cascade,
    server_id    uuid not null,
    wave         integer not null,
    state        text not null default 'waiting' check (state in
                   ('waiting', 'running', 'done', 'failed', 'gone')),
    from_version bigint not null,
    version      bigint not null,                    -- that it has now
    attempts     integer not null default 0,
    -- Each taker gets the next number; who has an older one records nothing more.
    claim        bigint not null default 0,
    token        bigint not null default 0,          -- the rollout's when it was taken
    worker       text not null default '',
    lease_until  timestamptz,                        -- while it runs, and then alone
    next_at      timestamptz not null default now(),
    began_at     timestamptz,
    ended_at     timestamptz,
    millis       bigint not null default 0,          -- of the last try
    kind         text not null default '',           -- of the failure
    file         text not null default '',           -- that failed
    error        text not null default '',
    primary key (rollout, tenant)
);
create index rollout_targets_open on rollout_targets (rollout, server_id, state, wave, next_at, tenant)
    where state in ('waiting', 'running');
create index rollout_targets_tenant on rollout_targets (tenant);

-- What nodes counted for the tenants of a wave, a slot of some seconds at a time.
create table rollout_health (
    rollout  uuid not null references rollouts (id) on delete cascade,
    wave     integer not null,
    node     uuid not null,
    slot     timestamptz not null,                   -- its beginning
    seconds  integer not null check (seconds > 0),
    requests bigint not null,
    failures bigint not null,
    buckets  bigint[] not null,                      -- of latency, not cumulative
    primary key (rollout, wave, node, slot)
);

-- What each tenant's database looked like when it was last compared.
create table tenant_schemas (
    tenant          uuid primary key references tenants (id) on delete cascade,
    fingerprint     bytea not null,
    schema_version  bigint not null,
    product_version bigint not null,
    drifted         boolean not null,
    differences     jsonb not null default '[]',
    invalid_indexes text[] not null default '{}',
    checked_at      timestamptz not null default now()
);
create index tenant_schemas_drifted on tenant_schemas (tenant) where drifted or invalid_indexes <> '{}';

-- What a database looks like that was made from zero, by the migrations' sum.
create table schema_references (
    sum         text primary key,                    -- of both streams' files, and of what a server adds
    fingerprint bytea not null,
    objects     jsonb not null,
    made_at     timestamptz not null default now()
);

grant select, insert, update, delete on migration_files, rollouts, rollout_waves, rollout_targets, rollout_health,
    tenant_schemas, schema_references to freehold_catalog;

-- +goose Down
drop table schema_references, tenant_schemas, rollout_health, rollout_targets, rollout_waves, rollouts, migration_files;
alter table nodes drop column schema_min, drop column schema_max;
drop index tenants_state_product;
alter table ready_databases drop column product_version, drop column schema_needs;
alter table tenants drop column product_version, drop column schema_needs;
