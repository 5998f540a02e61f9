package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
)

// streams are the migrations that a tenant's database has: Freehold's own as this
// binary has them, and the product's as the catalog keeps them.
type streams struct{ freehold, product migrations.Set }

// setsTo are the migrations that a database of these versions was made by. The error
// says which version can't be had: ErrOtherBinary for Freehold's.
func (f *Fleet) setsTo(ctx context.Context, v catalog.Versions) (streams, error) {
	if v.Freehold > f.latest {
		return streams{}, fmt.Errorf("schema %d: %w: the latest here is %d", v.Freehold, ErrOtherBinary, f.latest)
	}
	to := streams{f.set.UpTo(v.Freehold), migrations.Product(nil)}
	if v.Product == 0 {
		return to, nil
	}
	all, err := f.product(ctx)
	if err != nil {
		return to, err
	}
	latest, err := all.Latest()
	if err == nil && latest < v.Product {
		err = fmt.Errorf("the product's version %d: the catalog keeps its migrations up to %d: %w", v.Product, latest, catalog.ErrConflict)
	}
	to.product = all.UpTo(v.Product)
	return to, err
}

// keptProduct is the product's set as it was read last.
type keptProduct struct {
	mu  sync.Mutex
	sum []byte         // guarded by mu: of its files' sums; nil: none was read
	set migrations.Set // guarded by mu
}

// product is the product's migrations as the catalog keeps them: those that were
// ever rolled out. Without any, a set without files.
func (f *Fleet) product(ctx context.Context) (migrations.Set, error) {
	kept, err := f.cat.MigrationFiles(ctx, catalog.StreamProduct)
	if err != nil {
		return migrations.Set{}, fmt.Errorf("read the product's migrations: %w", err)
	}
	h := sha256.New()
	for _, file := range kept {
		_ = binary.Write(h, binary.BigEndian, file.Version) // a hash takes all
		h.Write([]byte(file.Name))
		h.Write(file.Sum)
	}
	sum := h.Sum(nil)
	f.kept.mu.Lock()
	defer f.kept.mu.Unlock()
	if bytes.Equal(sum, f.kept.sum) {
		return f.kept.set, nil
	}
	files := make([]migrations.File, len(kept))
	for i, file := range kept {
		files[i] = migrations.File{Version: file.Version, Name: file.Name, Body: file.Body, Sum: [32]byte(file.Sum)}
	}
	f.kept.sum, f.kept.set = sum, migrations.Product(files)
	return f.kept.set, nil
}

// begins are the versions that a new tenant's database begins at: the fleet's
// floors, and this binary's latest where there is no fleet yet.
func (f *Fleet) begins(ctx context.Context) (catalog.Versions, error) {
	v, err := f.cat.Floors(ctx)
	if err == nil && v.Freehold == 0 {
		v.Freehold = f.latest
	}
	return v, err
}

// needs is what tenants.schema_needs is at a version. Of one that only a newer binary
// has it isn't known: 0, and no older binary serves it.
func (f *Fleet) needs(version int64) (int64, error) {
	if version > f.latest {
		return 0, nil
	}
	return f.set.Needs(version)
}

// NotUpgraded is returned when a tenant's database could not be brought to the
// fleet's versions, and so isn't served: a migration failed, or this binary doesn't
// have it. It is a catalog.ErrConflict.
type NotUpgraded struct{ Err error }

func (e *NotUpgraded) Error() string {
	return "its database could not be brought to the fleet's schema: " + e.Err.Error()
}

// Is reports whether target is catalog.ErrConflict.
func (e *NotUpgraded) Is(target error) bool { return target == catalog.ErrConflict }

func (e *NotUpgraded) Unwrap() error { return e.Err }

const (
	// upgradeStatement bounds each statement of a migration outside of rollouts.
	upgradeStatement = 15 * time.Minute
	// upgradeTries is how often the fleet may have moved on while one tenant was
	// brought up: rollouts are begun by people.
	upgradeTries = 5
)

// bringUp brings a tenant's database to the fleet's floors, of both streams, and
// records which versions it has then; also when that is only a part of it, with the
// error. One that is above them is left as it is. Errors: *NotUpgraded,
// tenantdb.ErrUnavailable, the catalog's, ctx's.
func (f *Fleet) bringUp(ctx context.Context, t catalog.Tenant) error {
	floors, err := f.cat.Floors(ctx)
	if err != nil {
		return err
	}
	cfg, err := f.ownerConfig(ctx, t.Server, t.Database)
	if err != nil {
		return err
	}
	has, err := f.rise(ctx, cfg, floors)
	if has.Freehold > 0 {
		// What was done stands, also before an error: who calls again is told of that one.
		if rerr := f.record(ctx, t.ID, has); rerr != nil {
			return rerr
		}
	}
	switch {
	case err == nil:
		if has != (catalog.Versions{Freehold: t.SchemaVersion, Product: t.ProductVersion}) {
			f.log.InfoContext(ctx, "tenant brought up", "tenant", t.ID.String(), "slug", t.Slug, "schema", has.Freehold, "product", has.Product)
		}
		return nil
	case errors.Is(err, catalog.ErrUnavailable), ctx.Err() != nil, away(ctx, err):
		return because(ctx, err)
	case state(err) == stateQueryCancelled:
		return &NotUpgraded{&unmigrated{fmt.Sprintf("%sa statement took longer than %s", fileOf(err), upgradeStatement), []error{err}}}
	}
	return &NotUpgraded{&unmigrated{reason(ctx, err), []error{err}}}
}

// upToDate runs fn, which has the tenant served, again when its database is below the
// fleet's floors and was brought up: they rise while rollouts go on.
func (f *Fleet) upToDate(ctx context.Context, t catalog.Tenant, fn func() error) error {
	for try := 1; ; try++ {
		err := fn()
		if _, behind := errors.AsType[*catalog.Behind](err); !behind || try == upgradeTries {
			return err
		}
		if err := f.bringUp(ctx, t); err != nil {
			return err
		}
	}
}

// away reports whether the database couldn't be worked on at all. What a migration's
// own statement was answered is no such thing, unless the server was on its way out.
func away(ctx context.Context, err error) bool {
	_, inFile := errors.AsType[*migrations.Error](err)
	if s := state(err); inFile && len(s) == 5 {
		return s != stateQueryCancelled && slices.Contains([]string{"08", "53", "57", "58"}, s[:2])
	}
	return errors.Is(translate(ctx, err), tenantdb.ErrUnavailable)
}

// fileOf names the migration that failed, for the beginning of a sentence.
func fileOf(err error) string {
	if m, ok := errors.AsType[*migrations.Error](err); ok {
		return m.File + ": "
	}
	return ""
}

// record writes which versions a tenant's database has, also when ctx is over: the
// status must be the truth.
func (f *Fleet) record(ctx context.Context, id catalog.TenantID, has catalog.Versions) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	needs, err := f.needs(has.Freehold)
	if err == nil && has.Freehold > f.latest {
		// The binary that migrated it may have said.
		var t catalog.Tenant
		if t, err = f.cat.Tenant(ctx, id); t.SchemaVersion == has.Freehold {
			needs = -1
		}
	}
	if err != nil {
		return err
	}
	return f.cat.SetVersions(ctx, id, has, needs)
}

// rise brings the database of cfg, which logs in as its owner, to these versions at
// least, Freehold's first, and returns those that it has then; zeros when they aren't
// known.
func (f *Fleet) rise(ctx context.Context, cfg *pgx.ConnConfig, to catalog.Versions) (has catalog.Versions, err error) {
	if has, err = f.versions(ctx, cfg); err != nil || !has.Below(to) {
		return has, err
	}
	lacks := to
	if has.Freehold >= to.Freehold {
		lacks.Freehold = 0
	}
	if has.Product >= to.Product {
		lacks.Product = 0
	}
	sets, err := f.setsTo(ctx, lacks)
	if err != nil {
		return has, err
	}
	if has.Freehold < to.Freehold {
		has.Freehold, err = raise(ctx, cfg, sets.freehold, has.Freehold)
	}
	if err == nil && has.Product < to.Product {
		has.Product, err = raise(ctx, cfg, sets.product, has.Product)
	}
	if errors.Is(err, migrations.ErrAhead) {
		// Another one brought it further meanwhile: in that stream nothing is left to do.
		return f.rise(ctx, cfg, to)
	}
	return has, err
}

// raise applies a set to a database that was found below it, and returns the version
// that it has then.
func raise(ctx context.Context, cfg *pgx.ConnConfig, set migrations.Set, from int64) (int64, error) {
	done, err := migrations.Options{StatementTimeout: upgradeStatement}.Apply(ctx, cfg, set)
	if err != nil {
		err = fmt.Errorf("migrate: %w", err)
	}
	return max(from, done.To), err
}

// versions reads what a database has.
func (f *Fleet) versions(ctx context.Context, cfg *pgx.ConnConfig) (has catalog.Versions, err error) {
	conn, err := connect(ctx, cfg)
	if err != nil {
		return has, fmt.Errorf("connect to the tenant's database: %w", err)
	}
	defer closeConn(ctx, conn)
	return f.versionsOn(ctx, conn)
}

func (f *Fleet) versionsOn(ctx context.Context, conn *pgx.Conn) (has catalog.Versions, err error) {
	has.Freehold, err = migrations.Version(ctx, conn, f.set)
	if err == nil {
		has.Product, err = migrations.Version(ctx, conn, migrations.Product(nil))
	}
	return has, translate(ctx, err)
}
