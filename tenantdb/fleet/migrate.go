package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
)

// MigrateOptions narrow MigrateAll.
type MigrateOptions struct {
	Parallel int                           // databases at once; 0: 4
	Tenant   string                        // slug; empty: all
	Progress func(done, failed, total int) // may be nil; called by MigrateAll's own goroutine
}

// MigrateResult is what became of one tenant's database.
type MigrateResult struct {
	Slug   string        `json:"tenant"`
	From   int64         `json:"from"`
	To     int64         `json:"to"`
	Took   time.Duration `json:"took_ns"`
	Err    error         `json:"-"`
	Reason string        `json:"reason,omitempty"` // for people; no secrets, no rows
}

// MigrateAll brings every tenant's database (not those that are being deleted, and
// not those that are still being made: Create does it) to the set's latest version, a new Provider
// each, and makes the coming weeks' partitions. ErrPartial when some failed;
// results hold every tenant by slug, failed ones with a reason. When ctx ends the
// rest is reported as failed.
func (f *Fleet) MigrateAll(ctx context.Context, o MigrateOptions) ([]MigrateResult, error) {
	tenants, err := f.migratable(ctx, o.Tenant)
	if err != nil {
		return nil, fmt.Errorf("migrate tenants: %w", err)
	}
	progress := o.Progress
	if progress == nil {
		progress = func(int, int, int) {}
	}
	progress(0, 0, len(tenants))
	queue := make(chan catalog.Tenant, len(tenants))
	for _, t := range tenants {
		queue <- t
	}
	close(queue)
	ended := make(chan MigrateResult)
	var group errgroup.Group
	for range cmp.Or(max(o.Parallel, 0), 4) {
		group.Go(func() error {
			for t := range queue {
				ended <- f.migrate(ctx, t)
			}
			return nil
		})
	}
	results := make([]MigrateResult, 0, len(tenants))
	failed := 0
	for range tenants {
		r := <-ended
		if r.Err != nil {
			failed++
		}
		results = append(results, r)
		progress(len(results), failed, len(tenants))
	}
	_ = group.Wait() // failures are in the results
	slices.SortFunc(results, func(a, b MigrateResult) int { return cmp.Compare(a.Slug, b.Slug) })
	if failed > 0 {
		return results, fmt.Errorf("migrate tenants: %d of %d failed: %w", failed, len(tenants), ErrPartial)
	}
	return results, nil
}

// page is how many tenants are asked for at a time.
const page = 500

// tenants reads every tenant that keep wants.
func (f *Fleet) tenants(ctx context.Context, keep func(catalog.Tenant) bool) (list []catalog.Tenant, err error) {
	filter := catalog.TenantFilter{Limit: page}
	for {
		some, err := f.cat.Tenants(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, t := range some {
			if keep(t) {
				list = append(list, t)
			}
		}
		if len(some) < page {
			return list, nil
		}
		filter.After = some[len(some)-1].Slug
	}
}

func (f *Fleet) migratable(ctx context.Context, slug string) ([]catalog.Tenant, error) {
	if slug != "" {
		t, err := f.cat.TenantBySlug(ctx, slug)
		if err == nil && t.State == catalog.Provisioning {
			err = fmt.Errorf("tenant %s is still being made: %w", slug, catalog.ErrConflict)
		}
		return []catalog.Tenant{t}, err
	}
	return f.tenants(ctx, func(t catalog.Tenant) bool {
		return t.State != catalog.Provisioning && t.State != catalog.Deleting
	})
}

// attempts is how often a migration that couldn't get its locks is tried.
const attempts = 4

func (f *Fleet) migrate(ctx context.Context, t catalog.Tenant) MigrateResult {
	began := time.Now()
	r := MigrateResult{Slug: t.Slug, From: t.SchemaVersion, To: t.SchemaVersion}
	for try := 1; ; try++ {
		if r.Err = ctx.Err(); r.Err == nil {
			r.Err = f.tryMigrate(ctx, t, &r)
		}
		if r.Err == nil || try == attempts || !locked(r.Err) || pause(ctx, jitter(try)) != nil {
			break
		}
	}
	r.Took = time.Since(began)
	if r.Err != nil {
		r.Reason = reason(ctx, r.Err)
		f.log.ErrorContext(ctx, "tenant not migrated", "tenant", t.ID.String(), "slug", t.Slug,
			"from", r.From, "to", r.To, "reason", r.Reason)
	}
	return r
}

func (f *Fleet) tryMigrate(ctx context.Context, t catalog.Tenant, r *MigrateResult) error {
	cfg, err := f.ownerConfig(ctx, t.Server, t.Database)
	if err != nil {
		return err
	}
	applied, err := migrations.Apply(ctx, cfg, f.set)
	if applied.To > 0 {
		// What was applied stands, also when the one after it failed.
		r.From, r.To = min(applied.From, r.From), applied.To
		err = errors.Join(err, f.record(ctx, t, applied.To))
	}
	if err != nil {
		return err
	}
	return f.weeks(ctx, t)
}

func (f *Fleet) record(ctx context.Context, t catalog.Tenant, version int64) error {
	// Also when ctx is over: the status must be the truth.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	return f.cat.SetSchemaVersion(ctx, t.ID, version)
}

// locked reports whether others held what was needed, so that a later try may do.
func locked(err error) bool {
	s := state(err)
	return s == stateLockTimeout || s == stateDeadlock
}

// jitter is between half and all of 200 ms, 400 ms, 800 ms, …
func jitter(try int) time.Duration {
	d := 100 * time.Millisecond << try
	return d/2 + rand.N(d/2) //nolint:gosec // not a secret
}

func (f *Fleet) weeks(ctx context.Context, t catalog.Tenant) error {
	cfg, err := f.ownerConfig(ctx, t.Server, t.Database)
	if err != nil {
		return err
	}
	// Attaching waits for the table's readers, and everybody else behind it.
	cfg.RuntimeParams["lock_timeout"] = "5s"
	conn, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if _, err := conn.Exec(ctx, makeWeeks, weeksAhead); err != nil {
		return fmt.Errorf("make weeks: %w", translate(ctx, err))
	}
	return nil
}

// reason says in a few words why a database could not be worked on.
func reason(ctx context.Context, err error) string {
	where := ""
	if m, ok := errors.AsType[*migrations.Error](err); ok {
		where = m.File + ": "
	}
	err = translate(ctx, err)
	switch {
	case errors.Is(err, context.Canceled):
		return where + "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return where + "out of time"
	case errors.Is(err, migrations.ErrAhead):
		return migrations.ErrAhead.Error()
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return where + r.Error()
	}
	for _, plain := range []error{tenantdb.ErrUnavailable, ErrStore} {
		if errors.Is(err, plain) {
			return where + plain.Error()
		}
	}
	return where + err.Error()
}
