package replica

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Compared is what is known of two databases that were found to hold the same while the
// source was served. It names tables and holds no rows; it can be kept as JSON.
type Compared struct {
	Name   string     `json:"name"`   // the replication's
	Tables []Verified `json:"tables"` // all of them
	Xmin   string     `json:"xmin"`   // the target: what began later has a number of at least this
}

// Verified is a table that was found to be the same.
type Verified struct {
	Table
	Rows    int64  `json:"rows"`
	Loose   bool   `json:"loose,omitempty"` // not all of it was compared, or changes can't be told by key
	Quiet   bool   `json:"quiet,omitempty"` // nothing changed it meanwhile
	Counter string `json:"counter"`         // the target's statistics of it, before it was read there
}

// tries is how often a table is compared that seems to differ.
const tries = 3

// BeforePause compares all tables of a replication, whatever changes meanwhile; the
// first thing that it does is to wait until the target has caught up. It reads each
// database as a whole, once, in one snapshot: for as long as it takes, about as long as
// pg_dump. Connections are the admins', settled and in no transaction; one more is
// made to the source. *Differs names what isn't the same.
//
// How a table under change is compared: what the log says was changed between a place
// before both snapshots and one after them is left out of both sums, and the rest has
// to be equal. Those rows are then compared one by one, until each was seen equal after
// its last change, or is changed again by what the slot has yet to tell.
func BeforePause(ctx context.Context, source, target *pgx.Conn, name string) (Compared, error) {
	c, err := beforePause(ctx, source, target, name)
	return c, wrap("compare", err)
}

func beforePause(ctx context.Context, source, target *pgx.Conn, name string) (c Compared, err error) {
	c.Name = name
	follower, err := pgx.ConnectConfig(ctx, source.Config().Copy())
	if err != nil {
		return c, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = follower.Close(ctx) // the socket is closed in any case
	}()
	if err := Settle(ctx, follower); err != nil {
		return c, err
	}
	if err := catchUp(ctx, source, target, name); err != nil {
		return c, err
	}
	if err := watch(ctx, follower, name); err != nil {
		return c, err
	}
	if c.Tables, err = pairs(ctx, source, target, name); err != nil {
		return c, err
	}
	p := &pass{source: source, target: target, follower: follower, name: name, since: newChanges()}
	todo := slices.Clone(c.Tables)
	for try := 1; len(todo) > 0; try++ {
		if try > 1 {
			if err := catchUp(ctx, source, target, name); err != nil {
				return c, err
			}
		}
		counters, err := readCounters(ctx, target)
		if err != nil {
			return c, err
		}
		xmin, wrong, err := p.compare(ctx, todo)
		if err != nil {
			return c, err
		}
		if c.Xmin == "" {
			c.Xmin = xmin
		}
		c.record(todo, counters)
		if len(wrong) > 0 && try >= tries {
			return c, &Differs{Tables: names(wrong)}
		}
		if todo = wrong; len(todo) == 0 && try < tries {
			// What the target's worker did before this is counted late, and would look
			// like somebody else's doing in the pause.
			if todo, err = c.moved(ctx, target, p.since); err != nil {
				return c, err
			}
		}
	}
	for i, t := range c.Tables {
		c.Tables[i].Quiet = !p.since.touched(t.String())
	}
	return c, follow(ctx, source, target, follower, c, p.since)
}

// Freshen compares what has changed since, so that little is left for the pause: right
// before it, when BeforePause was a while ago. Connections as there. *Differs.
func Freshen(ctx context.Context, source, target *pgx.Conn, c Compared) error {
	return wrap("compare", follow(ctx, source, target, source, c, newChanges()))
}

// catchUpTime is for how long the target may take to get all that there is.
const catchUpTime = 10 * time.Minute

func catchUp(ctx context.Context, source, target *pgx.Conn, name string) error {
	bounded, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	lsn, err := FlushLSN(bounded, source)
	if err == nil {
		err = CaughtUp(bounded, source, target, name, lsn)
	}
	if bounded.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("the target hasn't caught up within %s: %w", catchUpTime, ErrBusy)
	}
	return err
}

// pairs are the tables to compare: all of the source's, each of which the target has to
// have. The identity row may be each side's own.
func pairs(ctx context.Context, source, target *pgx.Conn, name string) (all []Verified, err error) {
	has, err := published(ctx, source, name)
	if err != nil {
		return nil, err
	}
	s, t, err := both(ctx, source, target, Tables)
	if err != nil {
		return nil, err
	}
	if missing := oneSided(s, t); len(missing) > 0 {
		return nil, &Differs{Tables: missing}
	}
	for _, table := range s {
		if IsIdentity(table) && !has[table.String()] {
			continue
		}
		all = append(all, Verified{Table: table, Loose: table.Key == nil || !has[table.String()]})
	}
	return all, nil
}

// oneSided are tables that only one of both has.
func oneSided(s, t []Table) []string {
	sides := map[string]int{}
	for _, table := range s {
		sides[table.String()] |= 1
	}
	for _, table := range t {
		sides[table.String()] |= 2
	}
	maps.DeleteFunc(sides, func(_ string, n int) bool { return n == 3 })
	return slices.Sorted(maps.Keys(sides))
}

func names(tables []Verified) (all []string) {
	for _, t := range tables {
		all = append(all, t.String())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// record takes over what was found of some of the tables.
func (c *Compared) record(found []Verified, counters map[string]string) {
	for _, f := range found {
		at := slices.IndexFunc(c.Tables, func(t Verified) bool { return t.String() == f.String() })
		f.Counter = counters[f.String()]
		c.Tables[at] = f
	}
}

// moved are the tables that somebody has changed on the target while the log says that
// nothing has on the source.
func (c *Compared) moved(ctx context.Context, target Querier, since *changes) (list []Verified, err error) {
	counters, err := readCounters(ctx, target)
	for _, t := range c.Tables {
		if counters[t.String()] != t.Counter && !since.touched(t.String()) {
			list = append(list, t)
		}
	}
	return list, err
}

// pass is one reading of both sides.
type pass struct {
	source, target *pgx.Conn
	follower       *pgx.Conn
	name           string
	since          *changes // what has changed since the slot's first place
}

const (
	readOnly = `begin isolation level repeatable read, read only`
	// The first statement takes the snapshot. A side may have to wait for the other.
	takeSnapshot = `
select set_config('idle_in_transaction_session_timeout', '0', true), pg_snapshot_xmin(pg_current_snapshot())::text`
)

// compare sums the tables in a snapshot of each side. It sets their Rows, and returns
// those that differ in what hasn't changed.
func (p *pass) compare(ctx context.Context, tables []Verified) (xmin string, wrong []Verified, err error) {
	defer func() {
		for _, conn := range []*pgx.Conn{p.source, p.target} {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			if _, rerr := conn.Exec(ctx, "rollback"); rerr != nil && err == nil {
				err = rerr
			}
			cancel()
		}
	}()
	for _, conn := range []*pgx.Conn{p.source, p.target} {
		if _, err := conn.Exec(ctx, readOnly); err != nil {
			return "", nil, err
		}
	}
	_, xmin, err = both(ctx, p.source, p.target, func(ctx context.Context, q Querier) (xmin string, err error) {
		err = q.QueryRow(ctx, takeSnapshot).Scan(nil, &xmin)
		return xmin, err
	})
	if err != nil {
		return "", nil, err
	}
	type sums struct{ source, target Sum }
	found := make([]sums, len(tables))
	for i, t := range tables {
		found[i].source, found[i].target, err = both(ctx, p.source, p.target, func(ctx context.Context, q Querier) (Sum, error) {
			return SumOf(ctx, q, t.Table)
		})
		if err != nil {
			return "", nil, err
		}
		tables[i].Rows = found[i].source.Rows
	}
	// Decoding goes as far as the log is on disk: further than what the snapshots see.
	if _, err := FlushLSN(ctx, p.follower); err != nil {
		return "", nil, err
	}
	if err := p.since.drain(ctx, p.follower, p.name); err != nil {
		return "", nil, err
	}
	for i, t := range tables {
		if found[i].source == found[i].target {
			continue
		}
		if _, whole := p.since.whole[t.String()]; whole {
			tables[i].Loose = true // left for the pause
			continue
		}
		same, err := p.sameRest(ctx, t.Table, found[i].source, found[i].target)
		if err != nil {
			return "", nil, err
		}
		if !same {
			wrong = append(wrong, t)
		}
	}
	return xmin, wrong, nil
}

// sameRest compares what is left of both sums without the rows that have changed.
func (p *pass) sameRest(ctx context.Context, t Table, s, o Sum) (bool, error) {
	changed := slices.Collect(maps.Keys(p.since.rows[t.String()]))
	if len(changed) == 0 || t.Key == nil {
		return false, nil
	}
	sr, or, err := both(ctx, p.source, p.target, func(ctx context.Context, q Querier) (map[rowKey]int64, error) {
		return rowsOf(ctx, q, t, changed)
	})
	if err != nil {
		return false, err
	}
	return s.without(sr) == o.without(or), nil
}

// without takes rows away from a sum.
func (s Sum) without(rows map[rowKey]int64) Sum {
	total, ok := new(big.Int).SetString(s.Hash, 10)
	if !ok {
		return s // never: a sum of integers
	}
	for _, hash := range rows {
		total.Sub(total, big.NewInt(hash))
	}
	return Sum{Rows: s.Rows - int64(len(rows)), Hash: total.String()}
}
