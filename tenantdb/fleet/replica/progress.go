package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Progress is how far a target has come.
type Progress struct {
	Tables  int    // of the subscription
	Ready   int    // of those: copied, and followed
	Copied  int64  // rows that copies have written so far, of tables that are under way
	Behind  int64  // bytes of the source's log that the target hasn't confirmed
	Trouble string // why it may not get on, as far as it can be seen from here; "" for no sign
}

// A copy in progress is seen by who may read everybody's statistics, which a superuser may.
const selectTarget = `
select (select count(*) from pg_subscription_rel r where r.srsubid = s.oid),
       (select count(*) from pg_subscription_rel r where r.srsubid = s.oid and r.srsubstate = 'r'),
       coalesce((select sum(p.tuples_processed)::bigint from pg_stat_progress_copy p
                  where p.datname = current_database() and p.command = 'COPY FROM'), 0),
       s.subenabled,
       exists (select from pg_stat_subscription w where w.subid = s.oid and w.pid is not null),
       coalesce(e.apply_error_count, 0), coalesce(e.sync_error_count, 0)
  from pg_subscription s
  join pg_database d on d.oid = s.subdbid and d.datname = current_database()
  left join pg_stat_subscription_stats e on e.subid = s.oid
 where s.subname = $1`

const selectBehind = `
select coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn), 0)::bigint, coalesce(s.wal_status = 'lost', false)
  from pg_replication_slots s
 where s.slot_name = $1`

// ReadProgress looks at both ends. ErrSlotLost when the source has nothing to go on
// with, ErrUnfit without the subscription.
func ReadProgress(ctx context.Context, source, target *pgx.Conn, name string) (p Progress, err error) {
	var enabled, working, lost bool
	var applyErrors, copyErrors int64
	err = target.QueryRow(ctx, selectTarget, name).Scan(&p.Tables, &p.Ready, &p.Copied, &enabled, &working, &applyErrors, &copyErrors)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, fmt.Errorf("look at the target: there is no subscription %s: %w", name, ErrUnfit)
	}
	if err != nil {
		return p, wrap("look at the target", err)
	}
	err = source.QueryRow(ctx, selectBehind, name).Scan(&p.Behind, &lost)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && lost {
		err = ErrSlotLost
	}
	if err != nil {
		return p, wrap("look at the source", err)
	}
	p.Behind = max(0, p.Behind)
	switch {
	case !enabled:
		p.Trouble = "the subscription is disabled"
	case applyErrors+copyErrors > 0:
		p.Trouble = fmt.Sprintf("copying a table has failed %d times and applying changes %d times: the target's own log says why", copyErrors, applyErrors)
	case !working:
		p.Trouble = "no worker follows: the target can't reach the source, or has no worker free (max_logical_replication_workers)"
	}
	return p, nil
}
