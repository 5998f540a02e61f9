package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet/dump"
	"freehold/tenantdb/fleet/replica"
)

// tenantSnapshot is a tenant's database as of one moment, for as long as it is open.
// Until then no table of it can be altered or dropped, and nothing that was deleted
// since is cleared away.
type tenantSnapshot struct {
	header  BackupHeader
	tenant  catalog.Tenant
	tables  []replica.Table
	id      string // pg_export_snapshot
	tools   dump.Tools
	from    dump.Database
	conn    *pgx.Conn
	cleanup func() // of from
}

// snapshotTries is how often tables may be made or dropped while they are being locked.
const snapshotTries = 5

// snapshot opens a snapshot of a tenant's database. localpg.ErrNotFound without client
// programs that fit its server, tenantdb.ErrForeign. The caller closes it.
func (f *Fleet) snapshot(ctx context.Context, t catalog.Tenant, operation string, scheduled bool) (_ *tenantSnapshot, err error) {
	server, err := f.cat.Server(ctx, t.Server)
	if err != nil {
		return nil, err
	}
	s := &tenantSnapshot{tenant: t, cleanup: func() {}, header: BackupHeader{
		Format: tenantBackupFormat, Tenant: t.ID.String(), Slug: t.Slug, Name: t.Name, Plan: t.Plan,
		Region: t.Region, Server: t.Server, Operation: operation, Scheduled: scheduled,
	}}
	defer func() {
		if err != nil {
			s.Close(ctx)
		}
	}()
	if s.header.Catalog, err = f.cat.CatalogID(ctx); err != nil {
		return nil, err
	}
	if s.tools, err = dump.Find(server.Version / versionUnit); err != nil {
		return nil, err
	}
	if s.from, s.cleanup, err = f.client(ctx, t.Server, t.Database); err != nil {
		return nil, err
	}
	cfg, err := f.ownerConfig(ctx, t.Server, t.Database)
	if err != nil {
		return nil, err
	}
	// It is idle while pg_dump and the object store take their time.
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	cfg.RuntimeParams["statement_timeout"] = "0"
	if s.conn, err = connect(ctx, cfg); err != nil {
		return nil, fmt.Errorf("connect to the tenant's database: %w", err)
	}
	if err := s.begin(ctx, f); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the snapshot.
func (s *tenantSnapshot) Close(ctx context.Context) {
	if s.conn != nil {
		closeConn(ctx, s.conn)
	}
	s.cleanup()
}

// begin looks for the moment: the tables are locked before it, so that their
// definitions, which no snapshot has, are those of that moment too.
func (s *tenantSnapshot) begin(ctx context.Context, f *Fleet) error {
	if err := replica.Settle(ctx, s.conn); err != nil {
		return translate(ctx, err)
	}
	for try := 1; ; try++ {
		before, err := replica.Tables(ctx, s.conn)
		if err != nil {
			return translate(ctx, err)
		}
		err = s.lockAndLook(ctx, f, before)
		if !errors.Is(err, errOtherTables) || try == snapshotTries {
			return err
		}
		if _, err := s.conn.Exec(ctx, "rollback"); err != nil {
			return translate(ctx, err)
		}
	}
}

var errOtherTables = errors.New("tables are made or dropped while the backup begins")

const (
	beginSnapshot = `begin isolation level repeatable read, read only`
	// The snapshot is taken by the first statement that reads.
	exportSnapshot = `
select pg_export_snapshot(), statement_timestamp(), current_setting('server_version_num')::integer,
       pg_database_size(current_database())`
	lastSeal = `select coalesce(max(n), 0) from freehold.audit_seals`
)

// sealsSince is the schema version whose databases have seals.
const sealsSince = 4

func (s *tenantSnapshot) lockAndLook(ctx context.Context, f *Fleet, tables []replica.Table) error {
	statements := []string{beginSnapshot, lockPatience}
	if len(tables) > 0 {
		statements = append(statements, "lock table "+strings.Join(tableNames(tables), ", ")+" in access share mode")
	}
	for _, sql := range statements {
		if _, err := s.conn.Exec(ctx, sql); err != nil {
			if state(err) == stateNoTable {
				return errOtherTables
			}
			return translate(ctx, err)
		}
	}
	h := &s.header
	if err := s.conn.QueryRow(ctx, exportSnapshot).Scan(&s.id, &h.MadeAt, &h.ServerVersion, &h.Bytes); err != nil {
		return translate(ctx, err)
	}
	h.MadeAt = h.MadeAt.UTC().Truncate(time.Microsecond)
	var err error
	if s.tables, err = replica.Tables(ctx, s.conn); err != nil {
		return translate(ctx, err)
	}
	if !slices.Equal(tableNames(tables), tableNames(s.tables)) {
		return errOtherTables
	}
	var whose catalog.TenantID
	if err := s.conn.QueryRow(ctx, selectIdentity).Scan(&whose); err != nil {
		return translate(ctx, err)
	}
	if whose != s.tenant.ID {
		return tenantdb.ErrForeign
	}
	has, err := f.versionsOn(ctx, s.conn)
	if err != nil {
		return err
	}
	h.Schema, h.Product = has.Freehold, has.Product
	if has.Freehold < sealsSince {
		return nil
	}
	return translate(ctx, s.conn.QueryRow(ctx, lastSeal).Scan(&h.AuditSeal))
}

func tableNames(tables []replica.Table) []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.String()
	}
	return names
}

// sums is what every table holds at the snapshot's moment. It uses the snapshot's own
// connection, so that nothing else may until it is back.
func (s *tenantSnapshot) sums(ctx context.Context) ([]BackupTable, error) {
	return tableSums(ctx, s.conn, s.tables)
}

// tableSums is what tables hold, in their order.
func tableSums(ctx context.Context, conn *pgx.Conn, tables []replica.Table) ([]BackupTable, error) {
	found, err := replica.Sums(ctx, conn, tables)
	if err != nil {
		return nil, translate(ctx, err)
	}
	list := make([]BackupTable, len(tables))
	for i, t := range tables {
		list[i] = BackupTable{t.String(), found[t.String()]}
	}
	return list, nil
}
