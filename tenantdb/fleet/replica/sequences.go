package replica

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

const selectSequences = `
select format('%I.%I', n.nspname, c.relname)
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'S' and c.relpersistence <> 't'
   and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
 order by 1`

const setSequences = `
select count(setval(u.name::regclass, u.value, u.called))
  from unnest($1::text[], $2::bigint[], $3::boolean[]) as u (name, value, called)`

// Sequences sets each of the target's sequences to where the source's is: logical
// replication doesn't carry them. n is how many there are.
func Sequences(ctx context.Context, source, target *pgx.Conn) (n int, err error) {
	rows, _ := source.Query(ctx, selectSequences)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, wrap("list sequences", err)
	}
	if len(names) == 0 {
		return 0, nil
	}
	var each []string
	for i, name := range names {
		each = append(each, fmt.Sprintf("select %d, last_value, is_called from %s", i, name))
	}
	values, called := make([]int64, len(names)), make([]bool, len(names))
	var i int
	var value int64
	var was bool
	rows, _ = source.Query(ctx, strings.Join(each, " union all "))
	_, err = pgx.ForEachRow(rows, []any{&i, &value, &was}, func() error {
		values[i], called[i] = value, was
		return nil
	})
	if err != nil {
		return 0, wrap("read sequences", err)
	}
	err = target.QueryRow(ctx, setSequences, names, values, called).Scan(&n)
	return n, wrap("set sequences", err)
}
