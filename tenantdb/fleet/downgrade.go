package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
)

// Downgrade is what taking migrations of one tenant back would do, or did.
type Downgrade struct {
	Tenant string         `json:"tenant"`
	Stream catalog.Stream `json:"stream"`
	From   int64          `json:"from"`
	To     int64          `json:"to"`
	Files  []string       `json:"files"` // in the order in which they are taken back
	Took   time.Duration  `json:"took_ns"`
}

// PlanDown shows what Down would take back, and changes nothing. It refuses what Down
// refuses.
func (f *Fleet) PlanDown(ctx context.Context, stream catalog.Stream, slug string, to int64) (Downgrade, error) {
	d, err := f.downgrade(ctx, stream, slug, to)
	if err != nil {
		return d.Downgrade, fmt.Errorf("plan down: %w", err)
	}
	return d.Downgrade, nil
}

// Down takes back a tenant's migrations of one stream that are above version to, under
// the tenant's lock. What they made is gone with all that was in it. The tenant is
// below the fleet then, and so is every tenant that is made meanwhile: the next rollout
// brings them up again.
//
// catalog.ErrConflict for a tenant that is neither active nor suspended, while a rollout
// of the stream is open (*catalog.OpenRollout), and below what a live node serves;
// migrations.ErrNoDown, before anything was done, where a migration has no way back;
// migrations.ErrAhead for a database beyond the stream's migrations. What was taken back
// until an error stays so, and is recorded.
func (f *Fleet) Down(ctx context.Context, stream catalog.Stream, slug string, to int64, actor string) (Downgrade, error) {
	d, err := f.downgrade(ctx, stream, slug, to)
	if err == nil {
		err = f.down(ctx, d, actor)
	}
	if err != nil {
		return d.Downgrade, fmt.Errorf("migrate down: %w", err)
	}
	return d.Downgrade, nil
}

type downgrade struct {
	Downgrade
	tenant catalog.Tenant
	set    migrations.Set
	config *pgx.ConnConfig
	has    catalog.Versions
}

// downgrade looks at all that could be refused.
func (f *Fleet) downgrade(ctx context.Context, stream catalog.Stream, slug string, to int64) (d *downgrade, err error) {
	d = &downgrade{Downgrade: Downgrade{Tenant: slug, Stream: stream, To: to, Files: []string{}}}
	if d.tenant, err = f.cat.TenantBySlug(ctx, slug); err != nil {
		return d, err
	}
	if s := d.tenant.State; s != catalog.Active && s != catalog.Suspended {
		return d, fmt.Errorf("tenant %s is %s: %w", slug, s, catalog.ErrConflict)
	}
	var bad mistakes
	switch stream {
	case catalog.StreamProduct:
		d.set, err = f.product(ctx)
		bad.when(to < 0, "to", "not negative")
	case catalog.StreamFreehold:
		d.set = f.set
		bad.when(to < 1, "to", "want at least 1: below it no database says whose it is")
	default:
		bad.when(true, "stream", "want %s or %s", catalog.StreamFreehold, catalog.StreamProduct)
	}
	if err = errors.Join(err, bad.err()); err != nil {
		return d, err
	}
	if err := f.mayGoDown(ctx, stream, to); err != nil {
		return d, err
	}
	if d.config, err = f.ownerConfig(ctx, d.tenant.Server, d.tenant.Database); err != nil {
		return d, err
	}
	return d, d.look(ctx, f)
}

// mayGoDown refuses while somebody brings tenants up, or couldn't serve one that far
// down. A node that doesn't say what it serves is of an older release, which is what
// one goes down for.
func (f *Fleet) mayGoDown(ctx context.Context, stream catalog.Stream, to int64) error {
	open, err := f.cat.OpenRollouts(ctx)
	if err != nil {
		return err
	}
	for _, r := range open {
		if r.Stream == stream {
			return &catalog.OpenRollout{Rollout: r}
		}
	}
	if stream != catalog.StreamFreehold {
		return nil
	}
	nodes, err := f.liveNodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if to < n.SchemaMin {
			return fmt.Errorf("node %s serves no tenant below version %d: %w", n.Name, n.SchemaMin, catalog.ErrConflict)
		}
	}
	return nil
}

// look reads what the database has, and which files take it down.
func (d *downgrade) look(ctx context.Context, f *Fleet) (err error) {
	if d.has, err = f.versions(ctx, d.config); err != nil {
		return err
	}
	if d.From = versionOf(d.Stream, d.has); d.From < d.To {
		return field("to", "it is at version %d already", d.From)
	}
	files, err := d.set.Files()
	if err != nil {
		return err
	}
	known := func(v int64) bool {
		return v == 0 || slices.ContainsFunc(files, func(m migrations.File) bool { return m.Version == v })
	}
	if !known(d.From) {
		return fmt.Errorf("it has version %d, which isn't among these migrations: %w", d.From, migrations.ErrAhead)
	}
	if !known(d.To) {
		return field("to", "there is no migration %d", d.To)
	}
	d.Files = d.Files[:0]
	for _, file := range slices.Backward(files) {
		if file.Version <= d.To || file.Version > d.From {
			continue
		}
		if !file.HasDown {
			return fmt.Errorf("%s: %w", file.Name, migrations.ErrNoDown)
		}
		d.Files = append(d.Files, file.Name)
	}
	return nil
}

func (f *Fleet) down(ctx context.Context, d *downgrade, actor string) error {
	lock, err := f.lockTenant(ctx, d.tenant.Server, d.tenant.ID)
	if err != nil {
		return err
	}
	defer closeConn(ctx, lock)
	// While this waited, a rollout may have begun, or the tenant have been moved.
	now, err := f.cat.Tenant(ctx, d.tenant.ID)
	if err != nil {
		return err
	}
	if now.State != d.tenant.State || now.Server != d.tenant.Server {
		return fmt.Errorf("tenant %s was changed meanwhile: %w", now.Slug, catalog.ErrConflict)
	}
	if err := f.mayGoDown(ctx, d.Stream, d.To); err != nil {
		return err
	}
	if err := d.look(ctx, f); err != nil {
		return err
	}
	if d.From == d.To {
		return nil
	}
	// Told first: killed in the middle, the catalog says less than the database has,
	// which the next rollout finds out. The other way round nobody would.
	if err := f.cat.SetVersions(ctx, d.tenant.ID, d.at(d.To), -1); err != nil {
		return err
	}
	f.dieAt("down/told")
	began := time.Now()
	done, err := migrations.Options{
		LockTimeout: defaultLockTimeout, StatementTimeout: defaultStatementTimeout,
		At: func(point string) { f.dieAt("down/" + point) },
	}.Down(ctx, d.config, d.set, d.To)
	d.Took = time.Since(began)
	if err != nil {
		err = because(ctx, err)
	}
	d.Files = append([]string{}, done.Applied...)
	// Also when ctx is over: what was done must be known.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	has, verr := f.versions(ctx, d.config)
	if verr != nil {
		return errors.Join(err, verr)
	}
	d.To = versionOf(d.Stream, has)
	f.log.InfoContext(ctx, "tenant taken down", "tenant", d.tenant.ID.String(), "slug", d.Tenant,
		"stream", string(d.Stream), "from", d.From, "to", d.To)
	return errors.Join(err, f.record(ctx, d.tenant.ID, has), f.cat.AppendAudit(ctx, actor, "migrate.down", d.tenant.ID, map[string]any{
		"slug": d.Tenant, "stream": string(d.Stream), "from": d.From, "to": d.To, "files": d.Files,
	}))
}

// at are the database's versions with the stream's at to.
func (d *downgrade) at(to int64) catalog.Versions {
	v := d.has
	if d.Stream == catalog.StreamProduct {
		v.Product = to
	} else {
		v.Freehold = to
	}
	return v
}
