package fleet

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// What has ended counts, with the tokens that were settled; what no node has
// settled costs nothing.
const selectUsage = `
select (p.created_at at time zone 'utc')::date as day, p.model, count(*) as requests,
       coalesce(sum(p.prompt_tokens), 0)::bigint as prompt_tokens,
       coalesce(sum(p.completion_tokens), 0)::bigint as completion_tokens
  from freehold.predictions p
 where p.state <> 'in_progress'
 group by 1, 2 order by 1, 2`

// rollUp writes what a tenant used, by day and model, into the catalog: totals
// without content.
func (f *Fleet) rollUp(ctx context.Context, t catalog.Tenant) error {
	conn, err := f.owner(ctx, t)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	rows, _ := conn.Query(ctx, selectUsage) // its error is in rows
	days, err := pgx.CollectRows(rows, pgx.RowToStructByName[catalog.Usage])
	if err != nil {
		return fmt.Errorf("read usage: %w", translate(ctx, err))
	}
	return f.cat.RollUp(ctx, t.ID, days)
}
