-- +goose Up
-- freehold:needs 4
-- A tenant's files, fine-tuning jobs and models. Bytes lie in the object store,
-- under the tenant's prefix; who of a fleet's workers has a job is in the catalog.

create table freehold.files (
    id         uuid primary key,              -- v7; its object is files/<id>
    -- uploading: its bytes are on their way. deleting: its object is being removed.
    state      text    not null default 'uploading' check (state in ('uploading', 'processed', 'deleting')),
    purpose    text    not null check (purpose in ('fine-tune', 'user_data', 'fine-tune-results')),
    name       text    not null,
    bytes      bigint  not null default 0 check (bytes >= 0),
    sha256     bytea   check (length(sha256) = 32),
    api_key    text    not null,              -- whose upload it was; empty: a worker's
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    check (state = 'uploading' or sha256 is not null or state = 'deleting')
);
-- What a sweep looks for.
create index files_unsettled on freehold.files (created_at) where state <> 'processed';
create index files_expiry on freehold.files (expires_at) where expires_at is not null;

create table freehold.fine_tuning_jobs (
    id              uuid primary key,         -- v7; also the work's in the catalog
    state           text  not null default 'validating_files' check (state in
                      ('validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    base            text  not null,           -- the platform's model, by its name
    trainer         text  not null,           -- builtin, openai or command:<name>
    model           text  not null unique,    -- what it makes is called
    suffix          text  not null default '',
    seed            bigint not null,
    method          json  not null default '{}',  -- as it was asked for
    metadata        jsonb not null default '{}',
    training_file   uuid  not null,
    validation_file uuid,
    result_file     uuid,
    trained_tokens  bigint,
    error_code      text  not null default '',
    error_message   text  not null default '',
    error_param     text  not null default '',
    -- Whose work it is: each taker has a higher number, and who has a lower one
    -- records nothing more.
    token           bigint not null default 0,
    upstream        text  not null default '',  -- the job's id at another server
    api_key         text  not null,
    request_id      text  not null default '',
    idempotency_key text  not null default '',
    request_hash    bytea not null,
    created_at      timestamptz not null default now(),
    started_at      timestamptz,
    finished_at     timestamptz,
    estimated_at    timestamptz,
    cleared         boolean not null default false -- ended, and what only its work needed is gone from the store
);
create index fine_tuning_jobs_uncleared on freehold.fine_tuning_jobs (finished_at) where not cleared;
create index fine_tuning_jobs_open on freehold.fine_tuning_jobs (created_at) where finished_at is null;
create index fine_tuning_jobs_asked on freehold.fine_tuning_jobs (api_key, request_hash, created_at);
create unique index fine_tuning_jobs_key on freehold.fine_tuning_jobs (api_key, idempotency_key) where idempotency_key <> '';

create table freehold.fine_tuning_events (
    id         uuid primary key,              -- v7: their order
    job        uuid not null references freehold.fine_tuning_jobs (id) on delete cascade,
    level      text not null check (level in ('info', 'warn', 'error')),
    kind       text not null default 'message' check (kind in ('message', 'metrics')),
    message    text not null,
    data       json,
    created_at timestamptz not null default now()
);
create index fine_tuning_events_job on freehold.fine_tuning_events (job, id);

create table freehold.fine_tuning_checkpoints (
    id         uuid primary key,
    job        uuid   not null references freehold.fine_tuning_jobs (id) on delete cascade,
    step       bigint not null check (step >= 0),
    metrics    json   not null default '{}',
    created_at timestamptz not null default now(),
    unique (job, step)
);

create table freehold.models (
    id         uuid primary key references freehold.fine_tuning_jobs (id), -- a job makes one at most
    name       text   not null unique,
    state      text   not null default 'ready' check (state in ('ready', 'deleting')),
    base       text   not null,               -- the platform's model: its kind, price and bounds
    trainer    text   not null,
    engine     text   not null default '',    -- that serves it; empty: the base's
    upstream   text   not null default '',    -- its name there; empty: by its artifact
    artifact   text   not null default '',    -- prefix of its objects; empty: it has none here
    sha256     bytea  check (length(sha256) = 32), -- of the artifact's manifest
    bytes      bigint not null default 0 check (bytes >= 0),
    card       json   not null default '{}',
    created_at timestamptz not null default now()
);

grant select, insert, update, delete on freehold.files to freehold_tenant;
grant select, insert, update on freehold.fine_tuning_jobs to freehold_tenant;
grant select, insert on freehold.fine_tuning_events to freehold_tenant;
grant select on freehold.fine_tuning_checkpoints to freehold_tenant;
-- Workers register models, as the owner; a tenant's role uses and removes them.
grant select, update (state), delete on freehold.models to freehold_tenant;

-- +goose Down
drop table freehold.models, freehold.fine_tuning_checkpoints, freehold.fine_tuning_events, freehold.fine_tuning_jobs, freehold.files;
