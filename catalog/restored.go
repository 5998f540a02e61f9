package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	selectRestoring = `select error from chores where name = $1 and error <> ''`

	bulkTimeouts = `set local statement_timeout = 0`

	lockAllTenants = `select id from tenants where state <> 'deleted' order by id for no key update`
	raiseClock     = `update catalog_clock set seq = greatest(seq, $1)`
	tickAll        = `update tenants set epoch = $1, updated_at = now() where state <> 'deleted'`

	holdDeletes = `
update operations
   set state = 'failed', ended_at = now(),
       error = 'the catalog was restored from a backup, and what became of the tenant since is not known:'
                || ' look whether it is still to be deleted, then retry or cancel this'
 where kind = 'delete' and state = 'waiting' and tenant = any($1)`

	// Whoever restores has some time to read what was found.
	delayDeletes = `
update operations set run_at = greatest(run_at, now() + interval '1 hour')
 where kind = 'delete' and state = 'waiting'`
)

// Restoring returns the name of the dump that Load has filled this catalog with,
// when EndRestore hasn't come to its end since. Else it is ErrNotFound.
func (c *Catalog) Restoring(ctx context.Context) (from string, err error) {
	err = c.writer.QueryRow(ctx, selectRestoring, RestoreChore).Scan(&from)
	return from, wrap("look for a restore", err)
}

// EndRestore ends what Load began: the clock and every tenant's epoch go above
// above and above what the catalog had, so that no fence refuses what is decided
// from now on. Deletions of the doubtful tenants no longer wait: a person decides;
// the others wait for an hour at least. detail goes to operator_audit in the name of actor. ErrConflict when no Load is
// to be ended.
func (c *Catalog) EndRestore(ctx context.Context, actor string, above int64, doubtful []TenantID, detail map[string]any) (seq int64, err error) {
	if detail == nil {
		detail = map[string]any{}
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return 0, fmt.Errorf("end restore: %w", invalid(errors.New("detail: not JSON")))
	}
	ids := make([]string, len(doubtful))
	for i, id := range doubtful {
		ids[i] = id.String()
	}
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		var from string
		if err := tx.QueryRow(ctx, selectRestoring+` for update`, RestoreChore).Scan(&from); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				return fmt.Errorf("end restore: none was begun: %w", ErrConflict)
			}
			return err
		}
		for _, sql := range []string{bulkTimeouts, lockAllTenants} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, holdDeletes, ids); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, delayDeletes); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, choreDone, RestoreChore); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, appendAudit, actor, "catalog.restore", nil, text); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, raiseClock, above); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, tickPlatform).Scan(&seq); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, tickAll, seq)
		return err
	})
	return seq, wrap("end restore", err)
}
