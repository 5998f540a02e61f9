-- +goose Up

-- Which catalog this is: databases and roles on servers bear it in a comment, so
-- that two catalogs can share a server and know their own.
alter table catalog_clock add column catalog uuid not null default gen_random_uuid();

-- Where new tenants go, and what stops a server from taking more.
alter table servers
    add column labels           jsonb   not null default '{}',
    add column plans            text[]  not null default '{}',     -- takes only these; empty: any that no other server claims
    add column ready            integer not null default 0 check (ready between 0 and 1000),
    add column max_databases    integer not null default 0 check (max_databases >= 0),    -- 0: what recovery allows
    add column max_recovery_s   integer not null default 120 check (max_recovery_s > 0),  -- after a crash, by the files to walk
    add column disk_bytes       bigint  not null default 0 check (disk_bytes >= 0),       -- what there is for data; 0: not known
    -- What was measured last.
    add column used_bytes       bigint  not null default 0,
    add column files            bigint  not null default 0,
    add column files_a_database integer not null default 300,
    add column sync_method      text    not null default '',
    add column measured_at      timestamptz;

alter table tenants
    add column pin          jsonb   not null default '{}',      -- labels that its server must have
    add column request_key  text,                                -- Idempotency-Key of its creation, for a day
    add column request_hash bytea,
    add column named        boolean not null default false;      -- its database knows its slug
create unique index tenants_request_key on tenants (request_key) where request_key is not null;
create index tenants_unnamed on tenants (created_at) where not named and state in ('active', 'suspended');
create index tenants_living on tenants (server_id) where state <> 'deleted';
create index tenants_state_version on tenants (state, schema_version);

-- Each long act, so that whoever comes after a killed worker knows how far it got.
create table operations (
    id           uuid primary key,
    kind         text not null check (kind ~ '^[a-z][a-z-]{0,30}$'),
    tenant       uuid references tenants (id),
    actor        text not null,
    args         jsonb not null default '{}',        -- never a secret
    state        text not null default 'waiting' check (state in
                   ('waiting', 'running', 'done', 'failed', 'cancelled')),
    -- Each taker gets the next number; who has an older one changes nothing more.
    token        bigint  not null default 0,
    worker       text    not null default '',
    lease_until  timestamptz,
    heartbeat_at timestamptz,
    attempts     integer not null default 0,
    run_at       timestamptz not null default now(),
    cancel       boolean not null default false,     -- asked for; heeded between two steps
    error        text not null default '',
    created_at   timestamptz not null default now(),
    ended_at     timestamptz
);
-- One act at a time for a tenant.
create unique index operations_busy on operations (tenant) where state in ('waiting', 'running');
create index operations_due on operations (run_at) where state in ('waiting', 'running');
create index operations_newest on operations (created_at);
create index operations_failed on operations (created_at) where state = 'failed';
create index operations_tenant on operations (tenant, created_at);

create table operation_steps (
    operation  uuid not null references operations (id) on delete cascade,
    n          integer not null,
    name       text not null,
    state      text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'failed')),
    started_at timestamptz,
    ended_at   timestamptz,
    error      text not null default '',
    primary key (operation, n),
    unique (operation, name)
);

-- A tenant without a name: role, database, identity, prefix and proof are there.
-- Claiming it moves its row to tenants.
create table ready_databases (
    id             uuid primary key,
    server_id      uuid not null references servers (id),
    secret         bytea not null,
    secret_key_id  bigint not null,
    schema_version bigint not null default 0,
    state          text not null default 'making' check (state in ('making', 'ready', 'dropping')),
    error          text not null default '',
    created_at     timestamptz not null default now()
);
create index ready_databases_server on ready_databases (server_id, state, created_at);

-- Mail that is owed. It is written with what it tells of, and sent later.
create table mail_outbox (
    id         uuid primary key,
    tenant     uuid references tenants (id),
    kind       text not null,
    recipient  text not null,
    detail     jsonb not null default '{}',          -- never a secret
    attempts   integer not null default 0,
    next_at    timestamptz not null default now(),
    sent_at    timestamptz,
    given_up_at timestamptz,
    error      text not null default '',
    created_at timestamptz not null default now(),
    unique (tenant, kind)
);
create index mail_outbox_due on mail_outbox (next_at) where sent_at is null and given_up_at is null;
create index mail_outbox_owed on mail_outbox (created_at) where sent_at is null;

-- What a tenant used, without content: all that its bill needs. Totals are
-- absolute, so that a day is rolled up any number of times.
create table usage_daily (
    tenant            uuid   not null references tenants (id),
    day               date   not null,
    model             text   not null,
    requests          bigint not null,
    prompt_tokens     bigint not null,
    completion_tokens bigint not null,
    rolled_at         timestamptz not null default now(),
    primary key (tenant, day, model)
);
alter table usage_daily enable row level security;
alter table usage_daily force  row level security;
create policy own_tenant on usage_daily for select to freehold_api
    using (tenant = nullif(current_setting('app.current_tenant_id', true), '')::uuid);
create policy writers on usage_daily to freehold_catalog using (true) with check (true);

-- What a deletion destroyed and what it can't reach, signed.
create table receipts (
    tenant    uuid primary key references tenants (id),
    document  text   not null,                     -- JSON, the very bytes that are signed
    signature bytea  not null,
    key_id    bigint not null,
    made_at   timestamptz not null default now()
);

-- Operators' own tokens, as hashes.
create table operators (
    name       text primary key check (name ~ '^[a-z0-9][a-z0-9._@-]{0,62}$'),
    role       text not null check (role in ('owner', 'operator', 'viewer')),
    id         text not null unique,
    hash       bytea not null check (length(hash) = 32),
    created_at timestamptz not null default now(),
    rotated_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz
);

-- What the reconciler found last, and since when it is so.
create table findings (
    kind   text not null,
    object text not null,                          -- a database, role, prefix or tenant
    server text not null default '',
    tenant uuid,
    what   text not null,
    fix    text not null default '',
    since  timestamptz not null default now(),
    primary key (kind, object)
);

create table catalog_backups (
    key     text primary key,                      -- of the object
    bytes   bigint not null,
    seq     bigint not null,                       -- the clock's number that it is true as of
    made_at timestamptz not null default now()
);

-- When each periodic work last ended well.
create table chores (
    name     text primary key,
    done_at  timestamptz not null default now(),
    error    text not null default '',
    error_at timestamptz
);

alter table nodes
    add column keys   bigint[] not null default '{}',   -- of the master key that it can open with
    add column health jsonb    not null default '{}';

grant select, insert, update on operations, operation_steps, mail_outbox, operators to freehold_catalog;
grant select, insert on receipts to freehold_catalog; -- the first stands
grant select, insert, update, delete on ready_databases, findings, catalog_backups, usage_daily, chores to freehold_catalog;
grant delete on mail_outbox, operations, operation_steps to freehold_catalog;
grant delete on api_keys, tenant_config to freehold_catalog;
grant update on catalog_seal to freehold_catalog;
grant select on usage_daily to freehold_api;

-- +goose Down
alter table nodes drop column keys, drop column health;
drop table chores, catalog_backups, findings, operators, receipts, usage_daily, mail_outbox, ready_databases,
    operation_steps, operations;
drop index tenants_living, tenants_state_version, tenants_unnamed, tenants_request_key;
alter table tenants drop column pin, drop column request_key, drop column request_hash, drop column named;
alter table servers drop column labels, drop column plans, drop column ready, drop column max_databases,
    drop column max_recovery_s, drop column disk_bytes, drop column used_bytes, drop column files,
    drop column files_a_database, drop column sync_method, drop column measured_at;
alter table catalog_clock drop column catalog;
revoke delete on api_keys, tenant_config from freehold_catalog;
revoke update on catalog_seal from freehold_catalog;
