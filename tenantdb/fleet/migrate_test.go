package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// A second migration reaches 20 tenants with one broken among them.
func TestMigrateAllWithOneBroken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const tenants, broken = 20, "tenant-07"
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range tenants {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if _, _, err := b.fleet.Create(t.Context(), catalog.TenantSpec{Slug: fmt.Sprintf("tenant-%02d", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	victim, err := b.cat.TenantBySlug(t.Context(), broken)
	b.ok(err)
	super := b.super(victim.Database)
	_, err = super.Exec(t.Context(), "create table freehold.notes (n integer)")
	b.ok(err)

	f := b.newFleet(fleet.Config{Tenant: with("create table freehold.notes (n integer);")})
	var calls, last int
	results, err := f.MigrateAll(t.Context(), fleet.MigrateOptions{Progress: func(done, failed, total int) {
		calls, last = calls+1, done
		if total != tenants || failed > done {
			t.Errorf("progress %d %d %d", done, failed, total)
		}
	}})
	if !errors.Is(err, fleet.ErrPartial) {
		t.Errorf("error %v", err)
	}
	if calls != tenants+1 || last != tenants || len(results) != tenants {
		t.Errorf("%d calls of progress, the last at %d; %d results", calls, last, len(results))
	}
	for _, r := range results {
		listed, err := b.cat.TenantBySlug(t.Context(), r.Slug)
		b.ok(err)
		if r.Slug == broken {
			want := extra + `: relation "notes" already exists (SQLSTATE 42P07)`
			if r.Err == nil || r.Reason != want || r.To != latest || listed.SchemaVersion != latest {
				t.Errorf("the broken one: %+v, catalog says %d", r, listed.SchemaVersion)
			}
			continue
		}
		if r.Err != nil || r.From != latest || r.To != latest+1 || listed.SchemaVersion != latest+1 {
			t.Errorf("%+v, catalog says %d", r, listed.SchemaVersion)
		}
	}
	findings, err := f.Doctor(t.Context())
	b.ok(err)
	if d := finding(findings, fmt.Sprintf("1 of 20 tenants are behind schema %d", latest+1)); d == nil || d.OK || d.Fix != "freehold migrate up" {
		t.Errorf("doctor: %+v", findings)
	}

	_, err = super.Exec(t.Context(), "drop table freehold.notes")
	b.ok(err)
	results, err = f.MigrateAll(t.Context(), fleet.MigrateOptions{Parallel: 2})
	b.ok(err)
	for _, r := range results {
		if r.To != latest+1 {
			t.Errorf("mended: %+v", r)
		}
	}
	old, err := b.fleet.MigrateAll(t.Context(), fleet.MigrateOptions{Tenant: broken})
	if !errors.Is(err, fleet.ErrPartial) || len(old) != 1 || !strings.Contains(old[0].Reason, "ahead") {
		t.Errorf("an older binary: %+v %v", old, err)
	}
}

func TestMigrateRetriesLocksAndHeedsCancel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	f := b.newFleet(fleet.Config{Tenant: with("set local lock_timeout = '100ms'; alter table freehold.predictions add column note text;")})
	reader, err := b.as(acme, acme.Database)
	b.ok(err)
	tx, err := reader.Begin(t.Context())
	b.ok(err)
	_, err = tx.Exec(t.Context(), "select count(*) from freehold.predictions")
	b.ok(err)
	free := time.AfterFunc(300*time.Millisecond, func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	defer free.Stop()
	results, err := f.MigrateAll(t.Context(), fleet.MigrateOptions{})
	if err != nil || len(results) != 1 || results[0].To != latest+1 {
		t.Errorf("%+v %v", results, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	g := b.newFleet(fleet.Config{Tenant: with("select pg_sleep(30);")})
	later, err := b.cat.TenantBySlug(t.Context(), "acme")
	b.ok(err)
	b.ok(b.cat.SetSchemaVersion(t.Context(), later.ID, latest))
	_, err = b.super(acme.Database).Exec(t.Context(), "delete from freehold.schema_version where version_id = $1", latest+1)
	b.ok(err)
	time.AfterFunc(300*time.Millisecond, cancel)
	began := time.Now()
	results, err = g.MigrateAll(ctx, fleet.MigrateOptions{})
	if !errors.Is(err, fleet.ErrPartial) || len(results) != 1 || !strings.Contains(results[0].Reason, "cancelled") {
		t.Errorf("cancelled: %+v %v", results, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDoctorIsContent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	findings, err := b.fleet.Doctor(t.Context())
	b.ok(err)
	for _, f := range findings {
		// Another test opens databases for a moment.
		if !f.OK && !strings.Contains(f.What, "everybody can connect") {
			t.Errorf("%+v", f)
		}
	}
	_, err = b.super(acme.Database).Exec(t.Context(), "update freehold.tenant_identity set fence = 1000000")
	b.ok(err)
	findings, err = b.fleet.Doctor(t.Context())
	b.ok(err)
	if f := finding(findings, "older than the databases of: acme"); f == nil || f.OK {
		t.Errorf("a fence ahead: %+v", findings)
	}
}
