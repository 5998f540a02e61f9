-- +goose Up
-- Run as freehold_owner, who owns schema freehold and all in it. A tenant's
-- login role is a member of freehold_tenant, and that is all it may do here.

create table freehold.tenant_identity (
    one        boolean primary key default true check (one),
    tenant     uuid   not null,
    fence      bigint not null default 0,
    created_at timestamptz not null default now()
);

-- Refuses work that was decided on a truth older than the fence, and all work
-- where there is no fence. It raises, so that one pipelined statement before the
-- others stops them all.
-- +goose StatementBegin
create function freehold.check_fence(p_epoch bigint) returns void
language plpgsql stable as $$
begin
    if (p_epoch >= (select i.fence from freehold.tenant_identity i)) is not true then
        raise exception 'fenced' using errcode = 'FH001';
    end if;
end
$$;
-- +goose StatementEnd

-- Partitioned by week on the time inside its uuid v7, so that a look-up by id
-- prunes and a week goes at once.
create table freehold.predictions (
    id                uuid not null,
    request_id        text not null,
    api_key           text not null,
    kind              text not null check (kind in ('chat', 'embedding', 'prediction')),
    model             text not null,
    streamed          boolean not null default false,
    state             text not null check (state in
                        ('in_progress', 'succeeded', 'failed', 'cancelled', 'interrupted')),
    end_user          text not null default '',
    -- json, not jsonb: kept in the order and the form in which it was said.
    input             json,
    output            json,
    error_code        text not null default '',
    prompt_tokens     bigint not null default 0,
    completion_tokens bigint not null default 0,
    created_at        timestamptz not null,
    settled_at        timestamptz,
    primary key (id)
) partition by range (id);
-- A row never fails to find its week: what comes too early lies here until
-- make_prediction_weeks takes it along.
create table freehold.predictions_rest partition of freehold.predictions default;

-- The least uuid v7 of a moment (RFC 9562, 5.7: 48 bits of Unix milliseconds first).
-- +goose StatementBegin
create function freehold.uuid7_floor(p_at timestamptz) returns uuid
language sql immutable parallel safe as $$
    select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
-- +goose StatementEnd

-- Makes the partitions of p_weeks weeks, from the one that p_from lies in (weeks
-- begin on Monday, UTC). Those that exist are left alone. Returns how many it made.
-- +goose StatementBegin
create function freehold.make_prediction_weeks(p_from timestamptz, p_weeks integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    w    timestamp := date_trunc('week', p_from at time zone 'utc');
    made integer := 0;
    lo   uuid;
    hi   uuid;
    part text;
begin
    -- A worker's daily call and a migration may meet.
    perform pg_advisory_xact_lock(hashtext('freehold.make_prediction_weeks'));
    for i in 1 .. p_weeks loop
        part := 'predictions_w' || to_char(w, 'YYYYMMDD');
        if to_regclass('freehold.' || part) is null then
            -- Nothing may arrive between the move and the attaching.
            lock table freehold.predictions_rest in access exclusive mode;
            lo := freehold.uuid7_floor(w at time zone 'utc');
            hi := freehold.uuid7_floor((w + interval '7 days') at time zone 'utc');
            execute format('create table freehold.%I (like freehold.predictions including all)', part);
            execute format('with early as (delete from freehold.predictions_rest where id >= %L and id < %L returning *)
                            insert into freehold.%I select * from early', lo, hi, part);
            execute format('alter table freehold.predictions attach partition freehold.%I for values from (%L) to (%L)',
                           part, lo, hi);
            made := made + 1;
        end if;
        w := w + interval '7 days';
    end loop;
    return made;
end
$$;
-- +goose StatementEnd

select freehold.make_prediction_weeks(now(), 5);

-- A server that was upgraded from version 14 lets everybody create in public.
revoke create on schema public from public;

grant usage on schema freehold to freehold_tenant;
grant select on freehold.tenant_identity to freehold_tenant;
grant select, insert, update, delete on freehold.predictions to freehold_tenant;
revoke execute on function freehold.make_prediction_weeks(timestamptz, integer) from public;

-- +goose Down
drop table freehold.predictions;
drop function freehold.make_prediction_weeks(timestamptz, integer);
drop function freehold.uuid7_floor(timestamptz);
drop function freehold.check_fence(bigint);
drop table freehold.tenant_identity;
