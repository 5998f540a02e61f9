-- +goose Up

-- How the nodes divide each server's budget. A row is what a node may hold; the
-- sum over all rows of a server, those of silent nodes too, is never raised above
-- its budget.
create table budget_shares (
    server       uuid not null references servers (id) on delete cascade,
    node         uuid not null,
    granted      integer not null check (granted >= 0),
    demand       integer not null check (demand >= 0),
    heartbeat_at timestamptz not null,
    primary key (server, node)
);
create index budget_shares_node on budget_shares (node);

-- The clock's number at a node's first heartbeat: it has seen nothing older.
alter table nodes add column born bigint not null default 0;

-- Who holds nothing any more of a moving tenant from before the epoch.
create table drained (
    tenant uuid   not null references tenants (id),
    node   uuid   not null,
    epoch  bigint not null,
    primary key (tenant, node)
);
create index tenants_moving on tenants (id) where state = 'moving';

grant select, insert, update, delete on budget_shares, drained to freehold_catalog;

-- As before, with its columns named.
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
    return n;
end
$$;
-- +goose StatementEnd

-- +goose Down
-- append_operator_audit stays: what it does is the same.
drop index tenants_moving;
drop table drained, budget_shares;
alter table nodes drop column born;
