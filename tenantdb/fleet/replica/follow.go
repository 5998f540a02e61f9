package replica

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// fewKeys may be left for the pause.
	fewKeys = 2_000
	// rounds and followTime bound the following of changes: a tenant that writes
	// faster than its rows can be compared is better moved at another hour.
	rounds     = 200
	followTime = 10 * time.Minute
)

// follower compares rows that change, while they do.
type follower struct {
	source, target *pgx.Conn
	slot           *pgx.Conn // reads the source's log
	name           string
	tables         map[string]Verified
	unseen         map[string][]rowKey // not yet seen equal, and the slot won't tell of them again
}

// follow compares changed rows until few are left that the slot still has to tell of,
// and moves its place on. pending are rows that it won't tell of again.
func follow(ctx context.Context, source, target, slot *pgx.Conn, c Compared, pending *changes) error {
	f := &follower{source: source, target: target, slot: slot, name: c.Name, tables: map[string]Verified{}, unseen: map[string][]rowKey{}}
	for _, t := range c.Tables {
		f.tables[t.String()] = t
	}
	for table, rows := range pending.rows {
		f.unseen[table] = slices.Collect(maps.Keys(rows))
	}
	began := time.Now()
	for n := 0; n < rounds && time.Since(began) < followTime; n++ {
		if done, err := f.round(ctx); err != nil || done {
			return err
		}
		if err := rest(ctx, 2*poll); err != nil {
			return err
		}
	}
	if len(f.unseen) > 0 {
		return &Differs{Tables: slices.Sorted(maps.Keys(f.unseen))}
	}
	return fmt.Errorf("the changes of the source can't be followed: %w", ErrBusy)
}

// round compares what the slot tells of, and what is unseen. A row that isn't equal may
// be under way: if the slot tells of it, it isn't moved on beyond that.
func (f *follower) round(ctx context.Context) (done bool, err error) {
	if _, err := FlushLSN(ctx, f.slot); err != nil {
		return false, err
	}
	next := newChanges()
	if err := next.read(ctx, f.slot, peekChanges, f.name, atOnce); err != nil {
		return false, err
	}
	left, keep := 0, next.last+1
	for table, commit := range next.whole {
		settled, err := f.settled(ctx, table)
		if err != nil {
			return false, err
		}
		if !settled {
			keep = min(keep, commit)
		}
	}
	for table, rows := range next.rows {
		f.unseen[table] = slices.AppendSeq(f.unseen[table], maps.Keys(rows))
	}
	for table, keys := range f.unseen {
		t, known := f.tables[table]
		if _, whole := next.whole[table]; whole || !known || t.Key == nil {
			delete(f.unseen, table) // compared as a whole, now or in the pause
			continue
		}
		slices.Sort(keys)
		bad, err := unequal(ctx, f.source, f.target, t.Table, slices.Compact(keys))
		if err != nil {
			return false, err
		}
		bad = slices.DeleteFunc(bad, func(k rowKey) bool {
			commit, again := next.rows[table][k]
			if again {
				left++
				keep = min(keep, commit)
			}
			return again
		})
		if f.unseen[table] = bad; len(bad) == 0 {
			delete(f.unseen, table)
		}
	}
	if next.last > 0 {
		if err := advance(ctx, f.slot, f.name, keep); err != nil {
			return false, err
		}
	}
	return len(f.unseen) == 0 && !next.more && left < fewKeys, nil
}

// settled reports whether the slot may forget that a table was changed in a way that
// rows don't tell: it will be compared as a whole anyhow, or is found to be the same.
func (f *follower) settled(ctx context.Context, table string) (bool, error) {
	t, known := f.tables[table]
	if !known || t.Loose {
		return true, nil
	}
	if t.Bytes > wholeBudget {
		return false, nil
	}
	wrong, err := unequalTables(ctx, f.source, f.target, []Verified{t})
	return len(wrong) == 0, err
}
