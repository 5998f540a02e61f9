package fleet

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/migrations"
)

// templatePrefix begins the names of templates: its version and a fingerprint of
// its migrations follow.
const templatePrefix = "freehold_template_"

// A template is sealed, last of all, by closing it: one that isn't is half-made.
const selectTemplate = `
select datistemplate and not datallowconn from pg_database where datname = $1`

// lockName waits for a lock that is free again when the connection ends, however
// it ends. All callers are on database postgres: advisory locks are a database's own.
const lockName = `select pg_advisory_lock(hashtextextended($1, 0))`

// ensureTemplate makes the database that tenants are cloned from, unless it is
// there. conn is the admin's, on database postgres. Any number of processes may
// call it at once.
func (f *Fleet) ensureTemplate(ctx context.Context, conn *pgx.Conn, server string) error {
	sealed, _, err := f.templateState(ctx, conn)
	if err != nil || sealed {
		return err
	}
	lock, err := f.admin(ctx, server, maintenance)
	if err != nil {
		return fmt.Errorf("make template: %w", err)
	}
	defer closeConn(ctx, lock)
	if _, err := lock.Exec(ctx, lockName, f.template); err != nil {
		return fmt.Errorf("make template: lock: %w", translate(ctx, err))
	}
	sealed, exists, err := f.templateState(ctx, lock)
	if err != nil || sealed {
		return err
	}
	if err := f.makeTemplate(ctx, lock, server, exists); err != nil {
		return fmt.Errorf("make template: %w", err)
	}
	f.log.InfoContext(ctx, "template made", "server", server, "version", f.latest)
	return nil
}

func (f *Fleet) templateState(ctx context.Context, conn *pgx.Conn) (sealed, exists bool, err error) {
	rows, _ := conn.Query(ctx, selectTemplate, f.template) // its error is in rows
	found, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	if err != nil {
		return false, false, fmt.Errorf("look for template: %w", translate(ctx, err))
	}
	return len(found) == 1 && found[0], len(found) == 1, nil
}

func (f *Fleet) makeTemplate(ctx context.Context, conn *pgx.Conn, server string, halfMade bool) error {
	name, owner := ident(f.template), ident(migrations.RoleOwner)
	if halfMade {
		if _, err := conn.Exec(ctx, "drop database "+name+" with (force)"); err != nil {
			return fmt.Errorf("drop a half-made one: %w", translate(ctx, err))
		}
	}
	// From template0: template1 may hold what somebody put there.
	for _, sql := range []string{
		"create database " + name + " template template0 encoding 'UTF8' owner " + owner,
		"revoke all on database " + name + " from public",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return translate(ctx, err)
		}
	}
	cfg, err := f.ownerConfig(ctx, server, f.template)
	if err != nil {
		return err
	}
	if _, err := migrations.Apply(ctx, cfg, f.set); err != nil {
		return fmt.Errorf("migrate it: %s", reason(ctx, err))
	}
	_, err = conn.Exec(ctx, "alter database "+name+" with allow_connections false is_template true")
	return translate(ctx, err)
}
