package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// UpkeepFigures are counts of backups, moves and kept databases, of the whole
// platform.
type UpkeepFigures struct {
	Late []LateBackup // tenants outside their backup targets, the worst first
	Kept int          // databases that their tenants have left
	// Moves that have ended, by state: done, cancelled, and failed, which may be tried
	// again.
	Moves map[string]int64
	// PauseCounts are how many of the moves that were done paused their tenant for not
	// more than each of the bounds asked for, and PauseSum for how long all of them did.
	PauseCounts []int64
	Pauses      int64
	PauseSum    time.Duration
}

// maxLate bounds how many tenants are named: the rest is counted.
const maxLate = 10_000

const (
	countKept = `select count(*) from kept_databases`

	countMoves = `
select state, count(*) from operations where kind = 'move' and state in ('done', 'cancelled', 'failed') group by state`

	// Bounds are in whole milliseconds.
	countPauses = `
with pause as (
    select (args #>> '{notes,pause_ms}')::numeric as ms from operations
     where kind = 'move' and state = 'done' and jsonb_typeof(args #> '{notes,pause_ms}') = 'number'
)
select count(*), coalesce(sum(ms), 0)::float8,
       array(select (select count(*) from pause where ms <= b.ms) from unnest($1::bigint[]) with ordinality b (ms, n) order by b.n)
  from pause`
)

// UpkeepFigures counts in one round trip. bounds are for how long a pause may be to
// be counted, in ascending order.
func (c *Catalog) UpkeepFigures(ctx context.Context, bounds []time.Duration) (f UpkeepFigures, err error) {
	f.Moves = map[string]int64{}
	millis := make([]int64, len(bounds))
	for i, b := range bounds {
		millis[i] = b.Milliseconds()
	}
	var batch pgx.Batch
	collect(&batch, &f.Late, selectLate, maxLate)
	batch.Queue(countKept).QueryRow(func(row pgx.Row) error { return row.Scan(&f.Kept) })
	batch.Queue(countMoves).Query(func(rows pgx.Rows) error {
		var state string
		var n int64
		_, err := pgx.ForEachRow(rows, []any{&state, &n}, func() error {
			f.Moves[state] = n
			return nil
		})
		return err
	})
	batch.Queue(countPauses, millis).QueryRow(func(row pgx.Row) error {
		var sum float64
		err := row.Scan(&f.Pauses, &sum, &f.PauseCounts)
		f.PauseSum = time.Duration(sum * float64(time.Millisecond))
		return err
	})
	err = c.writer.SendBatch(ctx, &batch).Close()
	return f, wrap("count upkeep", err)
}
