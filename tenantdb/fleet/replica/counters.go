package replica

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const selectCounters = `
select n.nspname::text, c.relname::text,
       concat_ws(' ', pg_relation_filenode(c.oid), pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid),
                 pg_stat_get_tuples_deleted(c.oid))
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where ` + ownTables

// readCounters are the statistics of what was changed in each table, by Table.String.
// They come late: a session tells them at its end and else once a second.
func readCounters(ctx context.Context, q Querier) (map[string]string, error) {
	rows, _ := q.Query(ctx, selectCounters)
	counters := map[string]string{}
	var t Table
	var value string
	_, err := pgx.ForEachRow(rows, []any{&t.Schema, &t.Name, &value}, func() error {
		counters[t.String()] = value
		return nil
	})
	return counters, err
}
