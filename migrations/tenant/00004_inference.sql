-- +goose Up
-- What is admitted, settled, billed, audited and kept of a request. A request
-- writes twice: its admission and its settlement, each one pipelined round trip.

-- What was hashed for the audit is salt ‖ input ‖ 0x00 ‖ output, each as it is
-- stored. Payload and salt go together; the hash stays.
alter table freehold.predictions
    add column salt         bytea,
    add column payload_hash bytea,
    add column erased_at    timestamptz;
create index predictions_end_user on freehold.predictions (end_user, id) where end_user <> '';

-- Tokens of a calendar month (UTC) and requests at work: one row for the tenant
-- (api_key ''), one for each key. Whoever admits or settles locks the rows it needs
-- in the order of api_key; limits are decided on what stands in locked rows, never
-- by counting. A month rolls over in its row.
create table freehold.tenant_counters (
    api_key   text primary key,
    month     date    not null default date_trunc('month', now() at time zone 'utc')::date,
    used      bigint  not null default 0 check (used >= 0),
    reserved  bigint  not null default 0 check (reserved >= 0),
    in_flight integer not null default 0 check (in_flight >= 0)
) with (fillfactor = 40); -- changed twice a request: room for it on its own page

-- What an admitted request may still use, until it is settled: exactly once, since
-- only who deletes the row settles.
create table freehold.reservations (
    id              uuid primary key,              -- the prediction's
    node            uuid    not null,              -- the process: another one after each start
    month           date    not null,              -- whose tokens are reserved
    tokens          bigint  not null check (tokens >= 0),
    api_key         text    not null,
    slot            boolean not null default true, -- false: given back, its process is dead
    audit           boolean not null,
    idempotency_key text    not null default '',
    created_at      timestamptz not null default now()
);

-- One row for each settled request, for good: what it used, and the price of that
-- moment. Money is in nano-units of the bill's currency.
create table freehold.usage_ledger (
    id                uuid primary key,            -- the prediction's
    request_id        text   not null,
    api_key           text   not null,
    kind              text   not null,
    model             text   not null,
    state             text   not null,
    prompt_tokens     bigint not null check (prompt_tokens >= 0),
    completion_tokens bigint not null check (completion_tokens >= 0),
    input_price       bigint not null default 0 check (input_price >= 0),  -- of a million tokens
    output_price      bigint not null default 0 check (output_price >= 0),
    cost              bigint not null default 0 check (cost >= 0),
    at                timestamptz not null,        -- of admission: its month's limit and bill
    settled_at        timestamptz not null default now()
);
create index usage_ledger_at on freehold.usage_ledger (at);
create index usage_ledger_settled on freehold.usage_ledger (settled_at);

-- Answers that can be given again, sealed with the platform's master key.
create table freehold.idempotency_keys (
    api_key      text  not null,
    key          text  not null,
    request_hash bytea not null,
    prediction   uuid  not null,
    done         boolean not null default false,
    answer       bytea,                            -- null when done: too large to be kept
    expires_at   timestamptz not null,
    primary key (api_key, key)
);
create index idempotency_keys_expiry on freehold.idempotency_keys (expires_at);

-- Who did what, never its content. Rows are only ever added; sealing gives each its
-- place in the chain.
create table freehold.audit_log (
    id           uuid primary key,                 -- of a prediction: the prediction's
    at           timestamptz not null,
    actor        text  not null,                   -- key:<id>, operator:<name> or system
    action       text  not null,
    subject      text  not null default '',        -- what it was done to
    request_id   text  not null default '',
    detail       json  not null default '{}',      -- kept as it was written: it is hashed
    payload_hash bytea,
    operator_seq bigint unique,                    -- the row of the catalog's audit that it repeats
    seal         bigint,
    pos          integer,
    check ((seal is null) = (pos is null))
);
create index audit_unsealed on freehold.audit_log (id) where seal is null;
create unique index audit_sealed on freehold.audit_log (seal, pos) where seal is not null;
-- What isn't a prediction is rare, and asked for.
create index audit_acts on freehold.audit_log (action, id) where action <> 'prediction';

create table freehold.audit_seals (
    n         bigint  primary key check (n > 0),
    rows      integer not null check (rows > 0),
    prev      bytea   not null check (length(prev) = 32),
    head      bytea   not null check (length(head) = 32),
    sealed_at timestamptz not null,
    key_id    bigint  not null,
    signature bytea   not null
);

-- Seals rows that aren't sealed, in this order, behind the last seal. It runs as its
-- owner: a tenant's role may add rows and have them sealed, and change none. The
-- signature is made by who calls, with a key that is in no database.
-- +goose StatementBegin
create function freehold.seal_audit(p_n bigint, p_ids uuid[], p_prev bytea, p_head bytea,
    p_at timestamptz, p_key bigint, p_signature bytea) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    last_n    bigint := 0;
    last_head bytea  := decode(repeat('00', 32), 'hex');
    marked    integer;
begin
    perform pg_advisory_xact_lock(hashtext('freehold.seal_audit'));
    select s.n, s.head into last_n, last_head from freehold.audit_seals s order by s.n desc limit 1;
    if not found then
        last_n := 0;
        last_head := decode(repeat('00', 32), 'hex');
    end if;
    if p_n is distinct from last_n + 1 or p_prev is distinct from last_head then
        raise exception 'not the next seal' using errcode = 'FH002';
    end if;
    update freehold.audit_log a set seal = p_n, pos = i.pos
      from unnest(p_ids) with ordinality as i (id, pos)
     where a.id = i.id and a.seal is null;
    get diagnostics marked = row_count;
    if marked = 0 or marked <> cardinality(p_ids) then
        raise exception 'a row is sealed already, or missing' using errcode = 'FH002';
    end if;
    insert into freehold.audit_seals (n, rows, prev, head, sealed_at, key_id, signature)
    values (p_n, marked, p_prev, p_head, p_at, p_key, p_signature);
end
$$;
-- +goose StatementEnd
revoke execute on function freehold.seal_audit(bigint, uuid[], bytea, bytea, timestamptz, bigint, bytea) from public;
grant execute on function freehold.seal_audit(bigint, uuid[], bytea, bytea, timestamptz, bigint, bytea) to freehold_tenant;

-- What was answered before there was a ledger is in it without a price.
insert into freehold.usage_ledger (id, request_id, api_key, kind, model, state, prompt_tokens, completion_tokens, at, settled_at)
select p.id, p.request_id, p.api_key, p.kind, p.model, p.state, greatest(p.prompt_tokens, 0),
       greatest(p.completion_tokens, 0), p.created_at, coalesce(p.settled_at, p.created_at)
  from freehold.predictions p where p.state <> 'in_progress';
insert into freehold.tenant_counters (api_key, used)
select '', coalesce(sum(l.prompt_tokens + l.completion_tokens), 0)
  from freehold.usage_ledger l
 where l.at >= date_trunc('month', now() at time zone 'utc') at time zone 'utc';

grant select, insert, update on freehold.tenant_counters to freehold_tenant;
grant select, insert, update, delete on freehold.reservations, freehold.idempotency_keys to freehold_tenant;
grant select, insert on freehold.usage_ledger to freehold_tenant;
grant select on freehold.audit_log, freehold.audit_seals to freehold_tenant;
-- Not operator_seq: what operators did is repeated from the catalog, behind the last of
-- these numbers, and no node can say that it was.
grant insert (id, at, actor, action, subject, request_id, detail, payload_hash)
    on freehold.audit_log to freehold_tenant;

-- +goose Down
drop function freehold.seal_audit(bigint, uuid[], bytea, bytea, timestamptz, bigint, bytea);
drop table freehold.audit_seals, freehold.audit_log, freehold.idempotency_keys, freehold.usage_ledger,
    freehold.reservations, freehold.tenant_counters;
drop index freehold.predictions_end_user;
alter table freehold.predictions drop column salt, drop column payload_hash, drop column erased_at;
