package replica

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// wholeBudget is how many bytes of tables that have changed are read as a whole in the
// pause, the smallest first: some hundredths of a second.
const wholeBudget = 4 << 20

// InPause compares what may have changed since BeforePause. Nobody may write into the
// source meanwhile, and the target has to have caught up. *Differs names tables that
// aren't the same. Connections as for BeforePause. What it costs depends on what has
// changed since BeforePause or Freshen, and not on how much there is:
//
//   - rows that the source's log tells of are compared one by one; in tables of a few
//     megabytes, and where changes can't be told by key, the whole table is;
//   - a table that the log doesn't tell of is what it was on the source. When the target's
//     own statistics say that somebody has written into it there, its rows are counted
//     and looked through for new ones, and if there are any, all of it is compared.
//
// So a row that somebody else than the replication has changed on the target since
// BeforePause is found except in a large table that the source has changed too, or when
// statistics haven't told yet (they do within a second, or when a session ends).
//
// Without the slot that BeforePause made, everything is compared as a whole.
func InPause(ctx context.Context, source, target *pgx.Conn, before Compared) error {
	return wrap("compare", inPause(ctx, source, target, before))
}

func inPause(ctx context.Context, source, target *pgx.Conn, before Compared) error {
	var there bool
	if err := source.QueryRow(ctx, slotHere, seen(before.Name)).Scan(&there); err != nil {
		return err
	}
	if !there {
		return sameTables(ctx, source, target, before.Tables)
	}
	since := newChanges()
	if err := since.read(ctx, source, peekChanges, before.Name, mostKeys); err != nil {
		return err
	}
	if since.more {
		return sameTables(ctx, source, target, before.Tables)
	}
	counters, err := readCounters(ctx, target)
	if err != nil {
		return err
	}
	var whole []Verified
	var differ []string
	budget := int64(wholeBudget)
	for _, t := range slices.SortedFunc(slices.Values(before.Tables), bySize) {
		name := t.String()
		_, unknown := since.whole[name]
		switch changed := since.touched(name); {
		case t.Loose, unknown:
			whole = append(whole, t)
		case changed && t.Bytes <= budget:
			budget -= t.Bytes
			whole = append(whole, t)
		case changed:
			keys := make([]rowKey, 0, len(since.rows[name]))
			for k := range since.rows[name] {
				keys = append(keys, k)
			}
			bad, err := unequal(ctx, source, target, t.Table, keys)
			if err != nil {
				return err
			}
			if len(bad) > 0 {
				differ = append(differ, name)
			}
		case t.Quiet && counters[name] != t.Counter:
			strange, err := written(ctx, target, t, before.Xmin)
			if err != nil {
				return err
			}
			if strange {
				whole = append(whole, t)
			}
		}
	}
	wrong, err := unequalTables(ctx, source, target, whole)
	if err != nil {
		return err
	}
	if differ = append(differ, wrong...); len(differ) > 0 {
		slices.Sort(differ)
		return &Differs{Tables: differ}
	}
	return nil
}

// written reports whether a table of the target has other rows than it had, by their
// number and by the transactions that wrote them. After 2^31 transactions an old row can
// look new; never the other way round.
func written(ctx context.Context, target Querier, t Verified, xmin string) (bool, error) {
	var rows, fresh int64
	err := target.QueryRow(ctx, "select count(*), count(*) filter (where age(t.xmin) <= age($1::text::xid8::xid)) from only "+t.String()+" as t", xmin).
		Scan(&rows, &fresh)
	return rows != t.Rows || fresh > 0, err
}

// sameTables compares them as a whole.
func sameTables(ctx context.Context, source, target Querier, tables []Verified) error {
	wrong, err := unequalTables(ctx, source, target, tables)
	if err == nil && len(wrong) > 0 {
		err = &Differs{Tables: wrong}
	}
	return err
}

// unequalTables are those whose sums differ.
func unequalTables(ctx context.Context, source, target Querier, tables []Verified) ([]string, error) {
	var wrong []Verified
	for _, t := range tables {
		s, o, err := both(ctx, source, target, func(ctx context.Context, q Querier) (Sum, error) { return SumOf(ctx, q, t.Table) })
		if err != nil {
			return nil, err
		}
		if s != o {
			wrong = append(wrong, t)
		}
	}
	return names(wrong), nil
}

// bySize puts the smallest tables first.
func bySize(a, b Verified) int { return cmp.Compare(a.Bytes, b.Bytes) }
