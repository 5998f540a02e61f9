-- +goose Up
-- Policy, models and what is told of tenants' usage and audits.

alter table tenant_config
    add column pii_allow text[] not null default '{}', -- never personal data
    add column pii_deny  text[] not null default '{}', -- always
    drop constraint tenant_config_prediction_log_retention_days_check,
    -- 0: counts and hashes alone are kept
    add constraint tenant_config_prediction_log_retention_days_check check (prediction_log_retention_days >= 0);

-- Below the tenant's own; null: no less than these.
alter table api_keys
    add column allowed_models           text[],
    add column monthly_token_limit      bigint  check (monthly_token_limit >= 0),
    add column concurrent_request_limit integer check (concurrent_request_limit > 0),
    -- The Idempotency-Key of the request that made it, and which request that was.
    add column request_key              text,
    add column request_hash             bytea;
create unique index api_keys_request on api_keys (tenant, request_key) where request_key is not null;

alter table models
    add column fallbacks         jsonb   not null default '[]', -- [{"engine", "upstream"}], tried in order
    -- What bounds a request before it is sent: bytes of text bound its tokens.
    add column max_output_tokens integer not null default 4096 check (max_output_tokens > 0),
    add column token_overhead    integer not null default 32 check (token_overhead >= 0),   -- of a request
    add column message_overhead  integer not null default 16 check (message_overhead >= 0), -- of each message
    add column part_tokens       integer not null default 0 check (part_tokens >= 0);       -- of an image, sound or file; 0: refused

-- Other names for models: gpt-4o-mini for one of ours.
create table model_aliases (
    alias      text primary key check (alias ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$'),
    model      text not null references models (name) on delete cascade,
    created_at timestamptz not null default now()
);

-- Tenants with periodic work to do: all others are left asleep.
create table tenant_due (
    tenant        uuid primary key references tenants (id) on delete cascade,
    due_at        timestamptz not null,    -- infinity: nothing is to be done
    leased_until  timestamptz,             -- a worker is there; what falls due meanwhile waits for it
    visited_at    timestamptz,
    daily_at      timestamptz,             -- retention and partitions were last looked after
    rolled_to     timestamptz,             -- by its own database's clock: what was settled before is in usage_daily
    unsealed_at   timestamptz,             -- the oldest audit row that was left without a seal
    spooled       integer not null default 0, -- settlements that were left in the object store
    error         text not null default '',
    failing_since timestamptz
);
create index tenant_due_at on tenant_due (due_at);
create index tenant_due_leased on tenant_due (leased_until) where leased_until is not null;

alter table usage_daily add column cost bigint not null default 0 check (cost >= 0); -- nano-units

-- How far each tenant's audit is sealed: a chain can't tell that its end is missing.
create table audit_heads (
    tenant    uuid primary key references tenants (id) on delete cascade,
    n         bigint not null,
    head      bytea  not null check (length(head) = 32),
    sealed_at timestamptz not null,
    -- The last one that the chain was seen to lead through. A node that seals what
    -- follows a chain that was cut off notes a higher n than was cut: this one stays.
    proven_n    bigint not null default 0,
    proven_head bytea  not null default decode(repeat('00', 32), 'hex') check (length(proven_head) = 32)
);

create index operator_audit_tenant on operator_audit (tenant, seq) where tenant is not null;

-- What is done to a tenant also stands in its own audit: a worker is sent there.
-- +goose StatementBegin
create or replace function append_operator_audit(p_actor text, p_action text, p_tenant uuid, p_detail jsonb)
returns bigint language plpgsql as $$
declare
    n bigint;
    t timestamptz;
    p bytea;
begin
    perform pg_advisory_xact_lock(hashtext('operator_audit'));
    t := clock_timestamp(); -- behind the lock: later rows have later times
    select a.seq + 1, a.hash into n, p from operator_audit a order by a.seq desc limit 1;
    if not found then
        n := 1;
        p := decode(repeat('00', 32), 'hex');
    end if;
    insert into operator_audit (seq, at, actor, action, tenant, detail, prev, hash)
    values (n, t, p_actor, p_action, p_tenant, p_detail, p,
        sha256(p || convert_to(jsonb_build_array(n, extract(epoch from t)::text, p_actor, p_action,
            p_tenant, p_detail)::text, 'UTF8')));
    if p_tenant is not null then
        -- An audit row may outlive its tenant, or name none of ours.
        insert into tenant_due as d (tenant, due_at)
        select x.id, now() from tenants x where x.id = p_tenant and x.state not in ('deleting', 'deleted')
            on conflict (tenant) do update set due_at = least(d.due_at, excluded.due_at);
    end if;
    return n;
end
$$;
-- +goose StatementEnd

grant select, insert, update, delete on tenant_due, audit_heads, model_aliases to freehold_catalog;

-- +goose Down
drop index operator_audit_tenant;
drop table audit_heads, tenant_due, model_aliases;
alter table usage_daily drop column cost;
alter table models drop column fallbacks, drop column max_output_tokens, drop column token_overhead,
    drop column message_overhead, drop column part_tokens;
alter table api_keys drop column allowed_models, drop column monthly_token_limit, drop column concurrent_request_limit,
    drop column request_key, drop column request_hash;
update tenant_config set prediction_log_retention_days = 1 where prediction_log_retention_days = 0;
alter table tenant_config drop column pii_allow, drop column pii_deny,
    drop constraint tenant_config_prediction_log_retention_days_check,
    add constraint tenant_config_prediction_log_retention_days_check check (prediction_log_retention_days > 0);
-- +goose StatementBegin
create or replace function append_operator_audit(p_actor text, p_action text, p_tenant uuid, p_detail jsonb)
returns bigint language plpgsql as $$
declare
    n bigint;
    t timestamptz;
    p bytea;
begin
    perform pg_advisory_xact_lock(hashtext('operator_audit'));
    t := clock_timestamp();
    select a.seq + 1, a.hash into n, p from operator_audit a order by a.seq desc limit 1;
    if not found then
        n := 1;
        p := decode(repeat('00', 32), 'hex');
    end if;
    insert into operator_audit (seq, at, actor, action, tenant, detail, prev, hash)
    values (n, t, p_actor, p_action, p_tenant, p_detail, p,
        sha256(p || convert_to(jsonb_build_array(n, extract(epoch from t)::text, p_actor, p_action,
            p_tenant, p_detail)::text, 'UTF8')));
    return n;
end
$$;
-- +goose StatementEnd
