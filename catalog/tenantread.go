package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const nameTenant = `select set_config('app.current_tenant_id', $1, true)`

// asTenant reads as freehold_api, bound to one tenant: a transaction that names
// it and runs the query, pipelined in one round trip (Postgres makes one
// transaction of a pipeline, so the name ends with it).
func asTenant[T any](ctx context.Context, c *Catalog, id TenantID, to pgx.RowToFunc[T],
	sql string, args ...any,
) (list []T, err error) {
	var batch pgx.Batch
	batch.Queue(nameTenant, id.String())
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		list, err = pgx.CollectRows(rows, to)
		return err
	})
	return list, c.reader.SendBatch(ctx, &batch).Close()
}
