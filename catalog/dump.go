package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"freehold/migrations"
)

// A dump is zstd over JSON values, one a line: a DumpHeader; for each table an
// array ["table", name, [columns]] and its rows as objects; ["end", rows].
const dumpFormat = 1

// DumpHeader says what a dump is of.
type DumpHeader struct {
	Format  int       `json:"freehold_catalog"`
	Catalog string    `json:"catalog"` // its id
	Schema  int64     `json:"schema"`
	Seq     int64     `json:"seq"` // the clock's number that it is true as of
	At      time.Time `json:"at"`
	Servers int       `json:"servers"`
	Tenants int       `json:"tenants"` // without deleted ones
}

// dumped are the tables whose rows can't be made anew: those that others refer to
// come first. had is the key of those rows that a migrated catalog has already.
var dumped = []struct {
	name string
	had  string
}{
	{name: "catalog_clock", had: "one"},
	{name: "catalog_seal", had: "one"},
	{name: "backup_plans", had: "plan"},
	{name: "servers"},
	{name: "tenants"},
	{name: "migration_files"},
	{name: "rollouts"},
	{name: "rollout_waves"},
	{name: "rollout_targets"},
	{name: "api_keys"},
	{name: "tenant_config"},
	{name: "engines"},
	{name: "models"},
	{name: "model_aliases"},
	{name: "operations"},
	{name: "operation_steps"},
	{name: "mail_outbox"},
	{name: "usage_daily"},
	{name: "tenant_due"},
	{name: "work_queue"},
	{name: "kept_databases"},
	{name: "tenant_backups"},
	{name: "server_drains"},
	{name: "exports"},
	{name: "audit_heads"},
	{name: "receipts"},
	{name: "operators"},
	{name: "operator_audit"},
	{name: "catalog_backups"},
}

// undumped are the tables that a dump leaves out: what nodes and periodic work say
// anew, and the version, which the header has. A ready database may have been
// claimed since the dump: taken for ready again it would be given to a second
// tenant, so none is.
var undumped = []string{
	"nodes", "budget_shares", "drained", "findings", "chores", "ready_databases", "freehold_version",
	"rollout_health", "tenant_schemas", "server_links", "schema_references", "work_turns",
}

// Snapshot is the catalog as of one moment. Close it soon: while it is open,
// nothing that was deleted since is cleared away.
type Snapshot struct {
	DumpHeader
	conn *pgx.Conn
	tx   pgx.Tx
}

const (
	selectMoment = `
select c.catalog::text, c.seq, now(), (select count(*) from servers),
       (select count(*) from tenants where state <> 'deleted')
  from catalog_clock c`

	// Under the rights of our own writers: row-level security binds the owner too.
	becomeWriter = `set local role ` + migrations.RoleCatalog
)

// Snapshot opens a snapshot, on a connection of its own.
func (c *Catalog) Snapshot(ctx context.Context) (*Snapshot, error) {
	conn, err := c.connectBulk(ctx)
	if err != nil {
		return nil, wrap("open snapshot", err)
	}
	s := &Snapshot{conn: conn, DumpHeader: DumpHeader{Format: dumpFormat}}
	if err := s.begin(ctx); err != nil {
		s.Close(ctx)
		return nil, wrap("open snapshot", err)
	}
	return s, nil
}

func (s *Snapshot) begin(ctx context.Context) (err error) {
	s.tx, err = s.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	if s.Schema, err = migrations.Version(ctx, s.conn, migrations.Catalog()); err != nil {
		return err
	}
	if _, err = s.tx.Exec(ctx, becomeWriter); err != nil {
		return err
	}
	err = s.tx.QueryRow(ctx, selectMoment).Scan(&s.Catalog, &s.Seq, &s.At, &s.Servers, &s.Tenants)
	s.At = s.At.UTC()
	return err
}

// Close ends the snapshot.
func (s *Snapshot) Close(ctx context.Context) { closeConn(ctx, s.conn) }

// connectBulk connects as the admin, for transactions that take as long as they
// need: their callers' contexts bound them.
func (c *Catalog) connectBulk(ctx context.Context) (*pgx.Conn, error) {
	cfg := c.writer.Config().ConnConfig.Copy()
	params := cfg.RuntimeParams
	delete(params, "role") // it is taken on later: the version is not the roles' business
	params["statement_timeout"] = "0"
	// The other end, an object store, may be slow.
	params["idle_in_transaction_session_timeout"] = milliseconds(5 * time.Minute)
	// What a row's text looks like.
	params["timezone"], params["datestyle"], params["bytea_output"] = "UTC", "ISO", "hex"
	return pgx.ConnectConfig(ctx, cfg)
}

// Dump writes all that can't be made anew. Its memory doesn't grow with the
// catalog. It can be called once.
func (s *Snapshot) Dump(ctx context.Context, w io.Writer) error {
	// One at a time: no goroutines that would outlive a writer that fails.
	out, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("dump catalog: %w", err)
	}
	d := &dumper{snapshot: s, out: out}
	if err := d.run(ctx); err != nil {
		if d.failed != nil {
			return fmt.Errorf("dump catalog: write: %w", d.failed)
		}
		return wrap("dump catalog", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("dump catalog: write: %w", err)
	}
	return nil
}

type dumper struct {
	snapshot *Snapshot
	out      io.Writer
	rows     int64
	failed   error // of out
}

func (d *dumper) run(ctx context.Context) error {
	if err := d.value(d.snapshot.DumpHeader); err != nil {
		return err
	}
	for _, t := range dumped {
		if err := d.table(ctx, t.name); err != nil {
			return err
		}
	}
	return d.value([]any{"end", d.rows})
}

const selectColumns = `
select attname::text from pg_attribute
 where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attgenerated = ''
 order by attnum`

// table writes every column that the table has now: the plan is used once, so
// that a migration can't come in between.
func (d *dumper) table(ctx context.Context, name string) error {
	columns, err := tableColumns(ctx, d.snapshot.tx, name)
	if err != nil {
		return err
	}
	if err := d.value([]any{"table", name, columns}); err != nil {
		return err
	}
	rows, err := d.snapshot.tx.Query(ctx, "select row_to_json(t)::text from "+tableIdent(name)+" t", pgx.QueryExecModeExec)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := d.line(rows.RawValues()[0]); err != nil {
			return err
		}
		d.rows++
	}
	return rows.Err()
}

func tableIdent(name string) string { return pgx.Identifier{"public", name}.Sanitize() }

func tableColumns(ctx context.Context, q querier, name string) ([]string, error) {
	rows, err := q.Query(ctx, selectColumns, tableIdent(name))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (d *dumper) value(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return d.line(text)
}

func (d *dumper) line(text []byte) error {
	_, err := d.out.Write(text)
	if err == nil {
		_, err = d.out.Write([]byte("\n"))
	}
	d.failed = err
	return err
}
