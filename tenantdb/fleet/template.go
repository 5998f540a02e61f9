package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
)

// templatePrefix begins the names of templates: its versions and a sum of its
// migrations follow, as 4_0123456789ab or, with a product, as 4p2_0123456789ab.
const templatePrefix = "freehold_template_"

// template is a database that tenants are cloned from.
type template struct {
	name string
	at   catalog.Versions
	sets streams
}

// template is the one of these versions, as this binary's migrations and those of
// the product make it.
func (f *Fleet) template(ctx context.Context, v catalog.Versions) (template, error) {
	sets, err := f.setsTo(ctx, v)
	if err != nil {
		return template{}, err
	}
	h := sha256.New()
	err = addFiles(h, sets.freehold)
	name := fmt.Sprintf("%s%d", templatePrefix, v.Freehold)
	if err == nil && v.Product > 0 {
		fmt.Fprint(h, "product\n")
		err = addFiles(h, sets.product)
		name += fmt.Sprintf("p%d", v.Product)
	}
	if err != nil {
		return template{}, fmt.Errorf("tenant migrations: %w", err)
	}
	return template{name + "_" + hex.EncodeToString(h.Sum(nil)[:6]), v, sets}, nil
}

// addFiles adds what the migrations are: binaries of one version whose migrations
// differ must not share a template.
func addFiles(h io.Writer, set migrations.Set) error {
	names, err := fs.Glob(set.FS, "*.sql")
	for _, name := range names {
		text, rerr := fs.ReadFile(set.FS, name)
		if rerr != nil {
			return rerr
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	return err
}

var templateName = regexp.MustCompile(`^` + templatePrefix + `([0-9]{1,18})(?:p([0-9]{1,18}))?_[0-9a-f]{12}$`)

// templateVersions reads the versions in a template's name.
func templateVersions(name string) (v catalog.Versions, ok bool) {
	parts := templateName.FindStringSubmatch(name)
	if parts == nil {
		return v, false
	}
	v.Freehold, _ = strconv.ParseInt(parts[1], 10, 64) // digits that fit
	if parts[2] != "" {
		v.Product, _ = strconv.ParseInt(parts[2], 10, 64)
	}
	return v, true
}

// firstTemplate makes the one that the next tenant of a server is cloned from; where
// the fleet is ahead of this binary, the newest that it can make.
func (f *Fleet) firstTemplate(ctx context.Context, conn *pgx.Conn, server string) error {
	v, err := f.begins(ctx)
	if err != nil {
		return err
	}
	v.Freehold = min(v.Freehold, f.latest)
	t, err := f.template(ctx, v)
	if err != nil {
		return err
	}
	return f.ensureTemplate(ctx, conn, server, t)
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
 where datname ^@ $1 and shobj_description(oid, 'pg_database') = $2 order by datname`

// dropTemplates drops those that this catalog's fleet has left behind, in one stream,
// and isn't about to reach in the other: no tenant begins below its floors, but one
// whose onboarding waited. That is what kept is for.
// conn is the admin's, on database postgres.
func (f *Fleet) dropTemplates(ctx context.Context, conn *pgx.Conn, kept string) error {
	floors, err := f.cat.Floors(ctx)
	if err != nil {
		return err
	}
	mark, err := f.mark(ctx)
	if err != nil {
		return err
	}
	all, err := names(ctx, conn, selectTemplates, templatePrefix, mark)
	if err != nil {
		return err
	}
	for _, name := range all {
		v, ours := templateVersions(name)
		if !ours || name == kept || !v.Below(floors) || v.Freehold > floors.Freehold || v.Product > floors.Product {
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
		if _, err := conn.Exec(ctx, "alter database "+ident(name)+" with is_template false"); err != nil {
			return translate(ctx, err)
		}
		if err := dropForced(ctx, conn, name); err != nil {
			return translate(ctx, err)
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
		if err := dropForced(ctx, conn, t.name); err != nil {
			return fmt.Errorf("drop a half-made one: %w", translate(ctx, err))
		}
	}
	mark, err := f.mark(ctx)
	if err != nil {
		return err
	}
	// From template0: template1 may hold what somebody put there. Closed until nobody
	// but its owner can connect.
	for _, sql := range []string{
		"create database " + name + " template template0 encoding 'UTF8' owner " + owner + " allow_connections false",
		"revoke all on database " + name + " from public",
		"comment on database " + name + " is '" + mark + "'",
		"alter database " + name + " with allow_connections true",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return translate(ctx, err)
		}
	}
	cfg, err := f.ownerConfig(ctx, server, t.name)
	if err != nil {
		return err
	}
	_, err = migrations.Apply(ctx, cfg, t.sets.freehold)
	if err == nil && t.at.Product > 0 {
		_, err = migrations.Apply(ctx, cfg, t.sets.product)
	}
	if err != nil {
		return fmt.Errorf("migrate it: %w", because(ctx, err))
	}
	_, err = conn.Exec(ctx, "alter database "+name+" with allow_connections false is_template true")
	return translate(ctx, err)
}
