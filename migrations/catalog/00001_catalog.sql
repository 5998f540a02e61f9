-- +goose Up

-- The clock: every transition takes its number from this one row, last in its
-- transaction, so that commit order is number order. platform_seq is the last
-- number taken by something that belongs to no tenant (server, engine, model).
create table catalog_clock (
    one          boolean primary key default true check (one),
    seq          bigint  not null default 0,
    platform_seq bigint  not null default 0
);
insert into catalog_clock default values;

-- +goose StatementBegin
create function catalog_tick(p_platform boolean) returns bigint
language plpgsql as $$
declare
    n bigint;
begin
    update catalog_clock
       set seq = seq + 1,
           platform_seq = case when p_platform then seq + 1 else platform_seq end
    returning seq into n;
    perform pg_notify('freehold_catalog', n::text);
    return n;
end
$$;
-- +goose StatementEnd

-- What shows that a master key is the one this catalog was sealed with.
create table catalog_seal (
    one    boolean primary key default true check (one),
    sealed bytea   not null
);

create table servers (
    id              uuid primary key,
    name            text not null unique check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    region          text not null default '',
    host            text not null,
    port            integer not null check (port between 1 and 65535),
    ssl_mode        text not null,
    ssl_root_ca     text not null default '',
    admin_user      text not null,
    admin_secret    bytea not null,
    secret_key_id   bigint not null,
    version         integer not null,
    max_connections integer not null,
    budget          integer not null check (budget > 0),
    reserve         integer not null check (reserve > 0),
    state           text not null default 'active' check (state in ('active', 'draining', 'down')),
    created_at      timestamptz not null default now()
);

create table tenants (
    id             uuid primary key,
    slug           text not null check (slug ~ '^[a-z][a-z0-9-]{1,62}$'),
    name           text not null,
    email          text not null default '',
    plan           text not null default 'standard',
    labels         jsonb not null default '{}',
    region         text not null default '',
    state          text not null check (state in
                     ('provisioning', 'active', 'suspended', 'moving', 'deleting', 'deleted')),
    server_id      uuid not null references servers (id),
    database       text not null unique,
    role           text not null unique,
    secret         bytea not null,
    secret_key_id  bigint not null,
    epoch          bigint not null,
    schema_version bigint not null default 0,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now()
);
create unique index tenants_slug on tenants (slug) where state <> 'deleted';
create index tenants_epoch on tenants (epoch);
create index tenants_server on tenants (server_id);

create table api_keys (
    id         text primary key,
    tenant     uuid not null references tenants (id),
    name       text not null default '',
    hash       bytea not null check (length(hash) = 32),
    scopes     text[] not null check (cardinality(scopes) > 0),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
create index api_keys_tenant on api_keys (tenant, created_at);

create table tenant_config (
    tenant                        uuid primary key references tenants (id),
    allowed_models                text[]  not null default '{*}',
    system_prompt_override        text    not null default '',
    monthly_token_limit           bigint  not null default 1000000 check (monthly_token_limit >= 0),
    concurrent_request_limit      integer not null default 10 check (concurrent_request_limit > 0),
    prediction_log_retention_days integer not null default 90 check (prediction_log_retention_days > 0),
    pii_detection_enabled         boolean not null default true,
    pii_mode                      text    not null default 'restore' check (pii_mode in ('redact', 'restore', 'block')),
    audit_log_enabled             boolean not null default true,
    updated_at                    timestamptz not null default now()
);

create table engines (
    name          text primary key check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    kind          text not null check (kind in ('builtin', 'openai')),
    base_url      text not null default '',
    secret        bytea,
    secret_key_id bigint not null default 0,
    timeout_ms    integer not null default 60000 check (timeout_ms > 0),
    created_at    timestamptz not null default now()
);

create table models (
    name         text primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$'),
    engine       text not null references engines (name),
    upstream     text not null,
    kind         text not null check (kind in ('chat', 'embedding')),
    input_price  numeric(18, 6) not null default 0 check (input_price >= 0),
    output_price numeric(18, 6) not null default 0 check (output_price >= 0),
    created_at   timestamptz not null default now()
);

create table nodes (
    id           uuid primary key,
    name         text not null,
    version      text not null,
    seen         bigint not null default 0,
    started_at   timestamptz not null default now(),
    heartbeat_at timestamptz not null default now()
);

-- What operators did, each row bound to the one before it.
create table operator_audit (
    seq    bigint primary key,
    at     timestamptz not null,
    actor  text not null,
    action text not null,
    tenant uuid,
    detail jsonb not null,
    prev   bytea not null,
    hash   bytea not null check (length(hash) = 32)
);

-- +goose StatementBegin
create function append_operator_audit(p_actor text, p_action text, p_tenant uuid, p_detail jsonb)
returns bigint language plpgsql as $$
declare
    last operator_audit%rowtype;
    n    bigint;
    t    timestamptz;
    p    bytea;
begin
    perform pg_advisory_xact_lock(hashtext('operator_audit'));
    t := clock_timestamp(); -- behind the lock: later rows have later times
    select * into last from operator_audit order by seq desc limit 1;
    n := coalesce(last.seq, 0) + 1;
    p := coalesce(last.hash, decode(repeat('00', 32), 'hex'));
    insert into operator_audit (seq, at, actor, action, tenant, detail, prev, hash)
    values (n, t, p_actor, p_action, p_tenant, p_detail, p,
        sha256(p || convert_to(jsonb_build_array(n, extract(epoch from t)::text, p_actor, p_action,
            p_tenant, p_detail)::text, 'UTF8')));
    return n;
end
$$;
-- +goose StatementEnd

-- Who may see what. Tenant-facing code is freehold_api: it sees the one tenant
-- that its transaction names. FORCE binds the owner too, so our own writers are
-- an exception by policy.
alter table api_keys      enable row level security;
alter table api_keys      force  row level security;
alter table tenant_config enable row level security;
alter table tenant_config force  row level security;

create policy own_tenant on api_keys for select to freehold_api
    using (tenant = nullif(current_setting('app.current_tenant_id', true), '')::uuid);
create policy own_tenant on tenant_config for select to freehold_api
    using (tenant = nullif(current_setting('app.current_tenant_id', true), '')::uuid);
create policy key_lookup on api_keys for select to freehold_auth using (true);
create policy writers on api_keys to freehold_catalog using (true) with check (true);
create policy writers on tenant_config to freehold_catalog using (true) with check (true);

grant usage on schema public to freehold_api, freehold_catalog;
grant select on api_keys, tenant_config to freehold_api;
grant select (id, tenant, hash) on api_keys to freehold_auth;
grant select, insert, update on catalog_clock, servers, tenants, api_keys, tenant_config,
    engines, models, nodes to freehold_catalog;
grant delete on servers, engines, models, nodes to freehold_catalog;
grant select, insert on catalog_seal, operator_audit to freehold_catalog;

-- A key is looked up before its tenant is known: tenant and hash, nothing else.
-- +goose StatementBegin
create function auth_key(p_id text, out tenant uuid, out hash bytea) returns record
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select k.tenant, k.hash from public.api_keys k where k.id = p_id
$$;
-- +goose StatementEnd
revoke execute on function auth_key(text) from public;
grant execute on function auth_key(text) to freehold_api;
grant usage, create on schema public to freehold_auth;
alter function auth_key(text) owner to freehold_auth;
revoke create on schema public from freehold_auth;

revoke execute on function catalog_tick(boolean), append_operator_audit(text, text, uuid, jsonb) from public;
grant execute on function catalog_tick(boolean), append_operator_audit(text, text, uuid, jsonb) to freehold_catalog;

-- +goose Down
drop function auth_key(text);
drop function append_operator_audit(text, text, uuid, jsonb);
drop table operator_audit, nodes, models, engines, tenant_config, api_keys, tenants, servers, catalog_seal;
drop function catalog_tick(boolean);
drop table catalog_clock;
