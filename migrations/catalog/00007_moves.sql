-- +goose Up

-- What a moving tenant was before, and will be again.
-- freehold:allow check-constraint this table has a row for each tenant: checking them takes a moment
alter table tenants
    add column before_move text not null default '' check (before_move in ('', 'active', 'suspended'));

-- What a server was found to be fit for, as target or source of a replication;
-- empty: not looked yet.
alter table servers
    add column wal_level     text    not null default '',
    add column can_publish   boolean not null default false, -- its admin may make roles and slots of replication
    add column can_subscribe boolean not null default false;

-- Whether a server can replicate from another one, as it was tried.
create table server_links (
    source     uuid not null references servers (id) on delete cascade,
    target     uuid not null references servers (id) on delete cascade,
    why        text not null default '',           -- why it can't; empty: it can
    checked_at timestamptz not null default now(),
    primary key (source, target),
    check (source <> target)
);

-- Databases that a tenant has left and that are kept for a while: nobody can connect
-- to them.
create table kept_databases (
    id         uuid primary key,
    tenant     uuid not null references tenants (id),
    server_id  uuid not null references servers (id),
    database   text not null,                      -- its name there
    why        text not null check (why in ('moved', 'restored')),
    operation  uuid not null,
    drop_at    timestamptz,                        -- null: when it is confirmed
    created_at timestamptz not null default now(),
    unique (server_id, database)
);
create index kept_databases_tenant on kept_databases (tenant);
create index kept_databases_due on kept_databases (drop_at) where drop_at is not null;

-- How often tenants of a plan are backed up, for how long that is kept, and how
-- often a backup is proven by restoring it. The plan '' is every plan that has no row.
create table backup_plans (
    plan        text primary key,
    every       interval not null check (every >= interval '0'),       -- 0: never
    keep        interval not null check (keep > interval '0'),
    prove_every interval not null check (prove_every >= interval '0'), -- 0: never
    updated_at  timestamptz not null default now()
);
insert into backup_plans (plan, every, keep, prove_every) values ('', '24 hours', '30 days', '30 days');

create table tenant_backups (
    id              uuid primary key,              -- the operation's
    tenant          uuid   not null references tenants (id),
    key             text   not null unique,        -- of the object, whole
    made_at         timestamptz not null,          -- the moment that it is true as of
    bytes           bigint not null,               -- sealed
    objects         bigint not null default 0,     -- named by its manifest
    schema_version  bigint not null,
    product_version bigint not null default 0,
    server_version  integer not null,              -- of Postgres, as server_version_num
    scheduled       boolean not null default false,
    proved_at       timestamptz,                   -- last restored from, and found whole
    proof_error     text   not null default '',    -- of a later attempt
    created_at      timestamptz not null default now()
);
create index tenant_backups_newest on tenant_backups (tenant, made_at, id);
create index tenant_backups_broken on tenant_backups (tenant) where proof_error <> '';

-- All moves are counted at each scrape of the metrics.
-- freehold:allow index-not-concurrently none of these operations is there yet
create index operations_moves on operations (state) where kind = 'move';

-- Servers that everybody has to leave, and how that goes.
create table server_drains (
    id           uuid primary key,
    server_id    uuid    not null references servers (id) on delete cascade,
    actor        text    not null,
    target       text    not null default '',      -- a server by name; empty: wherever there is room
    way          text    not null default 'auto' check (way in ('auto', 'replication', 'copy')),
    parallel     integer not null check (parallel between 1 and 64),
    max_failures integer not null check (max_failures >= 0),
    state        text    not null default 'running' check (state in ('running', 'halted', 'done', 'cancelled')),
    error        text    not null default '',
    token        bigint  not null default 0,
    worker       text    not null default '',
    lease_until  timestamptz,
    begun_at     timestamptz not null default now(), -- again: failures from before it are tried anew
    created_at   timestamptz not null default now(),
    ended_at     timestamptz
);
create unique index server_drains_open on server_drains (server_id) where state in ('running', 'halted');

-- What a tenant took along: each is an object under its prefix until it expires.
create table exports (
    id          uuid primary key,                  -- the operation's
    tenant      uuid not null references tenants (id),
    actor       text not null,                     -- key:<id> or operator:<name>
    state       text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'failed', 'expired')),
    key         text not null default '',
    bytes       bigint not null default 0,
    sha256      bytea check (length(sha256) = 32),
    tables      integer not null default 0,
    rows        bigint not null default 0,
    files       bigint not null default 0,
    error       text not null default '',
    created_at  timestamptz not null default now(),
    ready_at    timestamptz,
    expires_at  timestamptz,
    request_key  text,                             -- the Idempotency-Key of who asked, for a day
    request_hash bytea
);
create index exports_tenant on exports (tenant, id);
create index exports_expiry on exports (expires_at) where state = 'done';

grant select, insert, update, delete on server_links, kept_databases, backup_plans, tenant_backups, server_drains, exports to freehold_catalog;

-- +goose Down
drop index operations_moves;
drop table exports, server_drains, tenant_backups, backup_plans, kept_databases, server_links;
alter table servers drop column wal_level, drop column can_publish, drop column can_subscribe;
alter table tenants drop column before_move;
