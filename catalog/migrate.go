package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog/queue/schema"
	"freehold/migrations"
)

// Migrate brings the catalog database at cfg.URL up, and makes it when the server
// has none of that name: group roles, schema, River's
// own schema, CONNECT revoked from PUBLIC, and the master key's seal. Idempotent,
// and safe when several processes do it at once. It returns the versions before
// and after.
func Migrate(ctx context.Context, cfg Config) (from, to int64, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return 0, 0, fmt.Errorf("migrate catalog: %w", err)
	}
	conn, err := openOrCreate(ctx, cfg.URL)
	if err != nil {
		return 0, 0, err
	}
	defer closeConn(ctx, conn)

	if err := migrations.EnsureCatalogRoles(ctx, conn); err != nil {
		return 0, 0, fmt.Errorf("migrate catalog: %w", err)
	}
	admin, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return 0, 0, wrap("migrate catalog", err)
	}
	// The migrations name no schema: one of the admin's own name must not come first.
	admin.RuntimeParams["search_path"] = "public"
	result, err := migrations.Apply(ctx, admin, migrations.Catalog())
	if err != nil {
		return result.From, result.To, fmt.Errorf("migrate catalog: %w", err)
	}
	return result.From, result.To, migrateRest(ctx, conn, cfg)
}

// One process at a time does what Apply's own lock doesn't cover. The lock ends
// with the connection.
const lockMigrate = `select pg_advisory_lock(hashtextextended('freehold_catalog_migrate', 0))`

func migrateRest(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	// Whoever holds the lock may be at work for longer than lock_timeout.
	if _, err := conn.Exec(ctx, `set lock_timeout = 0`); err != nil {
		return wrap("migrate catalog", err)
	}
	if _, err := conn.Exec(ctx, lockMigrate); err != nil {
		return wrap("migrate catalog", err)
	}

	if err := closeToStrangers(ctx, conn); err != nil {
		return err
	}
	if err := ensureSeal(ctx, conn, cfg.Keyset); err != nil {
		return err
	}
	return migrateQueue(ctx, conn, cfg)
}

func migrateQueue(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	if _, err := conn.Exec(ctx, schema.Create); err != nil {
		return wrap("migrate queue", err)
	}
	pool, err := newPool(ctx, cfg.URL, migrations.RoleCatalog, 2, 0)
	if err != nil {
		return err
	}
	defer pool.Close()
	return wrap("migrate queue", schema.Migrate(ctx, pool))
}

const selectDatabase = `
select current_database(), current_user,
       pg_get_userbyid(datdba) = current_user or pg_has_role(datdba, 'usage'),
       has_database_privilege('public', current_database(), 'connect')
from pg_database where datname = current_database()`

// closeToStrangers revokes CONNECT on the catalog's own database from PUBLIC, so
// that a tenant's role can't log in here. REVOKE only warns when it did nothing,
// hence the second look.
func closeToStrangers(ctx context.Context, conn *pgx.Conn) error {
	var database, admin string
	var owner, open bool
	look := func() error {
		return wrap("close catalog to strangers",
			conn.QueryRow(ctx, selectDatabase).Scan(&database, &admin, &owner, &open))
	}
	if err := look(); err != nil || !open {
		return err
	}
	name := pgx.Identifier{database}.Sanitize()
	revoke := "revoke connect, temporary on database " + name + " from public"
	if owner {
		_, failed := conn.Exec(ctx, revoke)
		if err := look(); err != nil || !open {
			return err // closed, by whomever: two at once get in each other's way
		}
		if failed != nil {
			return wrap("close catalog to strangers", failed)
		}
	}
	grant := "grant connect on database " + name + " to " + pgx.Identifier{admin}.Sanitize()
	return fmt.Errorf("%w: every role can connect to the catalog; the database's owner must run: %s; %s;",
		ErrConflict, grant, revoke)
}
