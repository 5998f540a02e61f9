package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"

	"freehold/migrations"
)

// templatePrefix begins the names of templates: its version and a fingerprint of
// its migrations follow.
const templatePrefix = "freehold_template_"

// template is a database that tenants are cloned from.
type template struct {
	name string
	set  migrations.Set
}

// template is the one of a schema version, as this binary's migrations make it.
func (f *Fleet) template(version int64) (template, error) {
	set := f.set.UpTo(version)
	sum, err := fingerprint(set.FS)
	if err != nil {
		return template{}, fmt.Errorf("tenant migrations: %w", err)
	}
	return template{fmt.Sprintf("%s%d_%s", templatePrefix, version, sum), set}, nil
}

// fingerprint is short for what the migrations are: binaries of one version whose
// migrations differ must not share a template.
func fingerprint(fsys fs.FS) (string, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}

// A template is sealed, last of all, by closing it: one that isn't is half-made.
const selectTemplate = `
select datistemplate and not datallowconn from pg_database where datname = $1`

// lockName waits for a lock that is free again when the connection ends, however
// it ends. All callers are on database postgres: advisory locks are a database's own.
const lockName = `select pg_advisory_lock(hashtextextended($1, 0))`

// ensureTemplate makes the database that tenants are cloned from, unless it is
// there. conn is the admin's, on database postgres. Any number of processes may
// call it at once.
func (f *Fleet) ensureTemplate(ctx context.Context, conn *pgx.Conn, server string, t template) error {
	sealed, _, err := templateState(ctx, conn, t)
	if err != nil || sealed {
		return err
	}
	lock, err := f.admin(ctx, server, maintenance)
	if err != nil {
		return fmt.Errorf("make template: %w", err)
	}
	defer closeConn(ctx, lock)
	if err := lockOn(ctx, lock, t.name); err != nil {
		return fmt.Errorf("make template: wait for who makes it: %w", err)
	}
	sealed, exists, err := templateState(ctx, lock, t)
	if err != nil || sealed {
		return err
	}
	if err := f.makeTemplate(ctx, lock, server, t, exists); err != nil {
		return fmt.Errorf("make template: %w", err)
	}
	f.log.InfoContext(ctx, "template made", "server", server, "template", t.name)
	if err := f.dropTemplates(ctx, lock, t.name); err != nil { // who makes the next one tries again
		f.log.WarnContext(ctx, "old templates not dropped", "server", server, "reason", reason(ctx, err))
	}
	return nil
}

const selectTemplates = `
select datname from pg_database
 where case when datname ~ '^freehold_template_[0-9]{1,18}_[0-9a-f]{12}$' then split_part(datname, '_', 3)::bigint < $1 end
   and shobj_description(oid, 'pg_database') = $2`

// dropTemplates drops those that this catalog's fleet has left behind: no tenant
// begins below its floor, but one whose onboarding waited. That is what kept is for.
// conn is the admin's, on database postgres.
func (f *Fleet) dropTemplates(ctx context.Context, conn *pgx.Conn, kept string) error {
	floor, err := f.cat.Floor(ctx)
	if err != nil {
		return err
	}
	mark, err := f.mark(ctx)
	if err != nil {
		return err
	}
	old, err := names(ctx, conn, selectTemplates, floor, mark)
	if err != nil {
		return err
	}
	for _, name := range old {
		if name == kept {
			continue
		}
		// Whoever makes it has its lock.
		var locked bool
		if err := conn.QueryRow(ctx, tryLockName, name).Scan(&locked); err != nil {
			return translate(ctx, err)
		}
		if !locked {
			continue
		}
		for _, sql := range []string{
			"alter database " + ident(name) + " with is_template false",
			"drop database if exists " + ident(name) + " with (force)",
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return translate(ctx, err)
			}
		}
		f.log.InfoContext(ctx, "old template dropped", "template", name)
	}
	return nil
}

func templateState(ctx context.Context, conn *pgx.Conn, t template) (sealed, exists bool, err error) {
	rows, _ := conn.Query(ctx, selectTemplate, t.name) // its error is in rows
	found, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	if err != nil {
		return false, false, fmt.Errorf("look for template: %w", translate(ctx, err))
	}
	return len(found) == 1 && found[0], len(found) == 1, nil
}

func (f *Fleet) makeTemplate(ctx context.Context, conn *pgx.Conn, server string, t template, halfMade bool) error {
	name, owner := ident(t.name), ident(migrations.RoleOwner)
	if halfMade {
		if _, err := conn.Exec(ctx, "drop database "+name+" with (force)"); err != nil {
			return fmt.Errorf("drop a half-made one: %w", translate(ctx, err))
		}
	}
	mark, err := f.mark(ctx)
	if err != nil {
		return err
	}
	// From template0: template1 may hold what somebody put there.
	for _, sql := range []string{
		"create database " + name + " template template0 encoding 'UTF8' owner " + owner,
		"revoke all on database " + name + " from public",
		"comment on database " + name + " is '" + mark + "'",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return translate(ctx, err)
		}
	}
	cfg, err := f.ownerConfig(ctx, server, t.name)
	if err != nil {
		return err
	}
	if _, err := migrations.Apply(ctx, cfg, t.set); err != nil {
		return fmt.Errorf("migrate it: %w", because(ctx, err))
	}
	_, err = conn.Exec(ctx, "alter database "+name+" with allow_connections false is_template true")
	return translate(ctx, err)
}
