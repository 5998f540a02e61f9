package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freehold/catalog"
)

// What becomes of each table of Freehold's when a tenant's database is replaced by an
// older one. Who adds a table says it here: a test compares these with the schema.
var (
	// carriedWhole are as they are now: they tell what was used, owed, answered and
	// done, which no restore takes back, and whose fence it is.
	carriedWhole = []string{
		"audit_log", "audit_seals", "idempotency_keys", "reservations", "tenant_counters", "tenant_identity", "usage_ledger",
	}
	// carriedThings are as they are now, and rows that are missing now come from the
	// backup. In this order they can be filled: jobs are referred to.
	carriedThings = []string{
		"fine_tuning_jobs", "fine_tuning_events", "fine_tuning_checkpoints", "models", "files",
	}
	// carriedMerged come from the backup, and rows that it doesn't have from what is
	// now. Partitions are their table's.
	carriedMerged = []string{"predictions"}
	// carriedNot say of the restored database what it is.
	carriedNot = []string{"schema_version"}
)

// carried counts what a restore took along from the database that it replaces.
type carried struct {
	Predictions int64 `json:"predictions"` // rows of today
	Erased      int64 `json:"erased"`      // of the backup's that had been erased since
	Files       int64 `json:"files"`       // rows that only the backup had
	Models      int64 `json:"models"`
	Jobs        int64 `json:"jobs"`
	// LostFiles and LostModels are the backup's whose objects are gone: left out.
	LostFiles  int64 `json:"lost_files"`
	LostModels int64 `json:"lost_models"`
}

// carrying takes along what must not be set back, from the database that a tenant
// has into the one that will be its own. Nobody writes into either meanwhile. All of
// it is one transaction of the latter.
type carrying struct {
	*Fleet
	tenant catalog.Tenant
	from   *pgx.Conn // nil: it can't be read any more
	to     pgx.Tx
	days   int // for how long predictions are kept
	done   carried
}

// restoration is what the tenant's audit tells of a restore.
type restoration struct {
	actor string

	Operation string    `json:"operation"`
	Backup    string    `json:"backup,omitempty"` // its id
	MadeAt    time.Time `json:"made_at"`
	Lost      bool      `json:"lost,omitempty"`
	Reverted  bool      `json:"reverted,omitempty"`
	From      string    `json:"from_tenant,omitempty"`
}

func (r restoration) subject() string {
	if r.Backup == "" {
		return ""
	}
	return "backup-" + r.Backup
}

// carry does it, and tells the audit. to is a connection to the new database as its
// owner, which describes statements; it may be done again.
func (f *Fleet) carry(ctx context.Context, t catalog.Tenant, from, to *pgx.Conn, what restoration) (carried, error) {
	cfg, err := f.cat.TenantConfig(ctx, t.ID)
	if err != nil {
		return carried{}, err
	}
	c := &carrying{Fleet: f, tenant: t, from: from, days: cfg.PredictionLogRetentionDays}
	err = pgx.BeginFunc(ctx, to, func(tx pgx.Tx) error {
		c.to = tx
		for _, part := range []struct {
			name string
			do   func(context.Context) error
		}{
			{"tables", c.whole}, {"predictions", c.predictions}, {"files and models", c.things}, {"fence", c.raise},
		} {
			if err := part.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
		}
		return tellRestore(ctx, tx, what, c.done)
	})
	if err != nil {
		return c.done, fmt.Errorf("carry over: %w", translate(ctx, err))
	}
	return c.done, nil
}

// whole replaces tables by what they are now.
func (c *carrying) whole(ctx context.Context) error {
	if c.from == nil {
		return c.settleLost(ctx)
	}
	if err := c.empty(ctx, carriedWhole); err != nil {
		return err
	}
	for _, table := range carriedWhole {
		if _, err := c.copyTable(ctx, table, ""); err != nil {
			return err
		}
	}
	return nil
}

func (c *carrying) empty(ctx context.Context, tables []string) error {
	names := make([]string, len(tables))
	for i, table := range tables {
		names[i] = freeholdTable(table)
	}
	_, err := c.to.Exec(ctx, "truncate "+strings.Join(names, ", "))
	return err
}

func freeholdTable(name string) string { return pgx.Identifier{"freehold", name}.Sanitize() }

// copyTable copies rows as they are now: all, or those of a condition.
func (c *carrying) copyTable(ctx context.Context, table, where string) (int64, error) {
	columns, err := c.columns(ctx, table)
	if err != nil {
		return 0, err
	}
	list := strings.Join(columns, ", ")
	n, err := copyRows(ctx, c.from, "select "+list+" from "+freeholdTable(table)+where,
		c.to.Conn(), freeholdTable(table)+" ("+list+")")
	if err != nil {
		return n, fmt.Errorf("%s: %w", table, err)
	}
	return n, nil
}

const selectColumns = `
select a.attname::text from pg_attribute a
 where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum`

// columns are those of a table of Freehold's, quoted. One that the new database
// doesn't have would be lost, and is an error.
func (c *carrying) columns(ctx context.Context, table string) ([]string, error) {
	now, err := names(ctx, c.from, selectColumns, freeholdTable(table))
	if err != nil {
		return nil, err
	}
	there, err := columnsOf(ctx, c.to, table)
	if err != nil {
		return nil, err
	}
	for i, name := range now {
		if now[i] = ident(name); !slices.Contains(there, now[i]) {
			return nil, fmt.Errorf("the restored database's %s has no column %s: %w", table, name, catalog.ErrConflict)
		}
	}
	return now, nil
}

func columnsOf(ctx context.Context, tx pgx.Tx, table string) ([]string, error) {
	rows, _ := tx.Query(ctx, selectColumns, freeholdTable(table)) // its error is in rows
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for i := range list {
		list[i] = ident(list[i])
	}
	return list, err
}

// copyRows streams what a query finds on one connection into a table on another.
func copyRows(ctx context.Context, from *pgx.Conn, query string, to *pgx.Conn, table string) (int64, error) {
	out, in := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := from.PgConn().CopyTo(ctx, in, "copy ("+query+") to stdout")
		in.CloseWithError(err) // nil ends the rows
		sent <- err
	}()
	var tag pgconn.CommandTag
	tag, err := to.PgConn().CopyFrom(ctx, out, "copy "+table+" from stdin")
	out.CloseWithError(io.ErrClosedPipe) // who takes no more may have given up before the end
	if told := <-sent; told != nil && !errors.Is(told, io.ErrClosedPipe) {
		return 0, translate(ctx, told)
	}
	return tag.RowsAffected(), translate(ctx, err)
}

const raiseCarried = `update freehold.tenant_identity set fence = greatest(fence, $1)`

// raise fences the new database as the tenant's own is, or would be.
func (c *carrying) raise(ctx context.Context) error {
	tag, err := c.to.Exec(ctx, raiseCarried, c.tenant.Epoch)
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New("the database has no identity row")
	}
	return err
}

// ActionRestored is how a tenant's audit calls a restore of its database.
const ActionRestored = "tenant.restored"

// auditActor is an operation's actor as a tenant's audit names them.
func auditActor(actor string) string {
	switch {
	case actor == "":
		actor = "unknown"
	case strings.HasPrefix(actor, "key:"), actor == "system":
		return actor
	}
	return "operator:" + actor
}
