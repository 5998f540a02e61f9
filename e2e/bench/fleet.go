package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

// What -tenants means here, so that its default is the whole of it.
const (
	fleetRaced  = 0.4 // tenants that are migrated in a race, for each of -tenants
	fleetServed = 2   // tenants that are migrated while they are served, for each
)

// shipyard is what the contests of fleet share: a few tenants beside the peers' equal
// databases, and many tenants. Each is made for the first contest that wants it; a
// turn migrates its databases one version further.
type shipyard struct {
	*hatchery
	few, many *harbour
	race      *race
}

func fleetContests(_ context.Context, b *bench) ([]contest, func(), error) {
	clearEnvironment()
	folder, err := os.MkdirTemp("", "freehold-bench-fleet-")
	if err != nil {
		return nil, nil, err
	}
	b.progress("%s", machine())
	y := &shipyard{hatchery: &hatchery{folder: folder}}
	var list []contest
	for _, workers := range []int{1, 4, 16} {
		versus, raw := fmt.Sprintf("vs_goose_%d", workers), fmt.Sprintf("raw_%d", workers)
		list = append(list, contest{versus, []string{versus, raw}, func(ctx context.Context, b *bench) error {
			return y.versusGoose(ctx, b, workers)
		}})
	}
	return append(list,
		contest{"vs_goose_cli", []string{"vs_goose_cli"}, y.versusCommand},
		contest{"fingerprint", []string{"fingerprint"}, y.fingerprint},
		contest{"served", []string{"served_p99", "served_failed"}, y.served},
		contest{"resume", []string{"resume"}, y.resume},
	), y.close, nil
}

func (y *shipyard) close() {
	for _, h := range []*harbour{y.few, y.many} {
		if h != nil {
			h.close()
		}
	}
	y.hatchery.close()
}

// harbour is a fleet on a Postgres server of its own, whose tenants have the product's
// first migration. Close it.
type harbour struct {
	*ground
	*house
	tenants []catalog.Tenant
	version int // the last of the product's migrations
}

const fleetCatalog = "freehold_fleet"

func openHarbour(ctx context.Context, b *bench, tenants int) (_ *harbour, err error) {
	g, err := openGround(ctx, b)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	h := &harbour{ground: g, tenants: make([]catalog.Tenant, tenants)}
	if h.house, err = g.openHouse(ctx, fleetCatalog, fleet.Config{}); err != nil {
		return nil, err
	}
	// Of nobody: tenants are made with what was rolled out last.
	if _, err = h.rollOut(ctx, 1); err != nil {
		return nil, err
	}
	b.progress("making %d tenants", tenants)
	began := time.Now()
	var making errgroup.Group
	making.SetLimit(4)
	for i := range tenants {
		making.Go(func() (err error) {
			h.tenants[i], _, err = h.fleet.Create(ctx, catalog.TenantSpec{Slug: fmt.Sprintf("tenant-%05d", i), Actor: "bench"})
			return err
		})
	}
	err = making.Wait()
	b.progress("made in %s", time.Since(began).Round(time.Second))
	return h, err
}

// fewTenants is the harbour for races.
func (y *shipyard) fewTenants(ctx context.Context, b *bench) (_ *harbour, err error) {
	if y.few == nil {
		y.few, err = openHarbour(ctx, b, int(fleetRaced*float64(b.opt.tenants)))
	}
	return y.few, err
}

// manyTenants is the harbour for what needs a whole fleet.
func (y *shipyard) manyTenants(ctx context.Context, b *bench) (_ *harbour, err error) {
	if y.many == nil {
		y.many, err = openHarbour(ctx, b, fleetServed*b.opt.tenants)
	}
	return y.many, err
}

// nextStatements are what a migration of a turn does, on every side.
func nextStatements(version int) string {
	return fmt.Sprintf(`alter table bench.items add column c_%[1]d integer;
create table bench.things_%[1]d (
    id      bigint generated always as identity primary key,
    item    bigint not null,
    made_at timestamptz not null default now()
);
create index on bench.things_%[1]d (item);
`, version)
}

func productFile(version int) (name, body string) {
	name = fmt.Sprintf("%05d_bench.sql", version)
	if version == 1 {
		return name, benchTable
	}
	return name, "-- +goose Up\n" + nextStatements(version)
}

// product is the product's migrations up to a version.
func product(version int) (migrations.Set, error) {
	var files []migrations.File
	for v := 1; v <= version; v++ {
		name, body := productFile(v)
		files = append(files, migrations.File{Name: name, Body: body})
	}
	return migrations.Given(files)
}

// writeProduct writes the files of versions from one to another into a folder.
func writeProduct(dir string, from, to int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for v := from; v <= to; v++ {
		name, body := productFile(v)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			return err
		}
	}
	return nil
}

var errNotMigrated = errors.New("not migrated")

// longRounds is how many rounds of what takes a whole fleet there are at most.
const longRounds = 5

// fewRounds has what is played until restore have no more than longRounds.
func (b *bench) fewRounds() (restore func()) {
	rounds := b.opt.rounds
	b.opt.rounds = min(rounds, longRounds)
	return func() { b.opt.rounds = rounds }
}

// rollOut brings all tenants one version further, as `migrate up` does, with so many
// workers; 0: by default. It returns how long that took, from the plan to the end of
// the rollout. What comes behind that end, a look at the schemas, is done as well.
func (h *harbour) rollOut(ctx context.Context, parallel int) (time.Duration, error) {
	h.version++
	set, err := product(h.version)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	r, err := h.fleet.StartRollout(ctx, fleet.RolloutSpec{
		Stream: catalog.StreamProduct, Set: &set, Waves: []float64{100}, Actor: "bench",
		Options: catalog.RolloutOptions{Parallel: parallel, Budget: "0", Soak: -1},
	})
	if err != nil {
		return 0, err
	}
	r, err = h.fleet.RunRollout(ctx, r.ID, false, func(catalog.RolloutStatus) {})
	if err != nil {
		return 0, err
	}
	if r.State != catalog.RolloutDone || r.EndedAt == nil {
		return 0, fmt.Errorf("%w: the rollout is %s: %s", errNotMigrated, r.State, r.Reason)
	}
	return r.EndedAt.Sub(began), nil
}

// rolledOut is a side whose turn is a rollout; it returns databases a second.
func (h *harbour) rolledOut(name string, parallel int) *side {
	return &side{name: name, turn: func(ctx context.Context, _ int, _ time.Duration) (float64, error) {
		took, err := h.rollOut(ctx, parallel)
		return rate(len(h.tenants), took), err
	}}
}
