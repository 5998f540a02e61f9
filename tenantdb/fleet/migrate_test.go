package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// A second migration of Freehold's reaches all tenants but the one that it is broken
// at, which the doctor tells of, and that one when it is mended.
func TestRollout_one_broken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const tenants, broken = 5, "tenant-03"
	list := b.several(tenants)
	super := b.super(list[3].Database)
	_, err := super.Exec(t.Context(), "create table freehold.notes (n integer)")
	b.ok(err)

	f := b.newFleet(fleet.Config{Tenant: with("create table freehold.notes (n integer);")})
	spec := fleet.RolloutSpec{Stream: catalog.StreamFreehold, Actor: "ops", Options: catalog.RolloutOptions{Budget: "1"}}
	r, err := f.StartRollout(t.Context(), spec)
	b.ok(err)
	var last catalog.RolloutStatus
	_, err = f.RunRollout(t.Context(), r.ID, false, func(s catalog.RolloutStatus) {
		if s.Total != tenants || s.Done < last.Done {
			t.Errorf("progress: %d of %d, after %d", s.Done, s.Total, last.Done)
		}
		last = s
	})
	if !errors.Is(err, fleet.ErrPartial) || last.State != catalog.RolloutPartial || last.Done != tenants-1 || last.Failed != 1 {
		t.Errorf("%v; the last that was told is %s, %d done, %d failed", err, last.State, last.Done, last.Failed)
	}
	want := catalog.FailureGroup{
		Kind: catalog.FailSQL, File: extra, Error: extra + `: relation "notes" already exists (SQLSTATE 42P07)`, Count: 1, Tenants: []string{broken},
	}
	if len(last.Failures) != 1 || !reflect.DeepEqual(last.Failures[0], want) {
		t.Errorf("failures: %+v", last.Failures)
	}
	versions := func(theBroken int64) {
		t.Helper()
		for _, one := range list {
			now, err := b.cat.Tenant(t.Context(), one.ID)
			b.ok(err)
			if want := map[bool]int64{true: theBroken, false: latest + 1}[now.Slug == broken]; now.SchemaVersion != want {
				t.Errorf("%s: the catalog says %d, want %d", now.Slug, now.SchemaVersion, want)
			}
		}
	}
	versions(latest)
	findings, err := f.Doctor(t.Context())
	b.ok(err)
	if d := finding(findings, fmt.Sprintf("1 of %d tenants are behind schema %d", tenants, latest+1)); d == nil || d.OK || d.Fix != "freehold migrate up" {
		t.Errorf("doctor: %+v", findings)
	}

	_, err = super.Exec(t.Context(), "drop table freehold.notes")
	b.ok(err)
	_, err = b.cat.ResumeRollout(t.Context(), r.ID, "ops")
	b.ok(err)
	if _, err := b.fleet.RunRollout(t.Context(), r.ID, true, nil); !errors.Is(err, fleet.ErrOtherBinary) {
		t.Errorf("an older binary: %v", err)
	}
	_, err = f.RunRollout(t.Context(), r.ID, false, nil)
	b.ok(err)
	versions(latest + 1)
}

// What others hold is tried again; who is told to stop leaves nothing half-done, and
// that was no failed try.
func TestRollout_locks_and_cancel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.create("acme")
	f := b.newFleet(fleet.Config{Tenant: with("alter table freehold.predictions add column note text;")})
	reader, err := b.as(acme, acme.Database)
	b.ok(err)
	tx, err := reader.Begin(t.Context())
	b.ok(err)
	_, err = tx.Exec(t.Context(), "select count(*) from freehold.predictions")
	b.ok(err)
	spec := fleet.RolloutSpec{Stream: catalog.StreamFreehold, Actor: "ops", Options: catalog.RolloutOptions{LockTimeout: 100 * time.Millisecond, Retries: 20}}
	r, err := f.StartRollout(t.Context(), spec)
	b.ok(err)
	ended := b.runs(f, r.ID)
	b.until("it is tried again", func() bool { return b.targets(r.ID)["acme"].Attempts > 1 })
	b.ok(tx.Rollback(t.Context()))
	if now, err := ended(); err != nil || now.State != catalog.RolloutDone {
		t.Errorf("%s %q: %v", now.State, now.Reason, err)
	}

	slow := b.newFleet(fleet.Config{Tenant: with("alter table freehold.predictions add column note text;").With(fstest.MapFS{
		fmt.Sprintf("%05d_slow.sql", latest+2): {Data: []byte("-- +goose Up\nselect pg_sleep(30);\n")},
	})})
	r, err = slow.StartRollout(t.Context(), spec)
	b.ok(err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const sleeps = `select exists (select from pg_stat_activity where datname = $1 and wait_event = 'PgSleep')`
	super, stopped := b.super("postgres"), make(chan error, 1)
	go func() {
		_, err := slow.RunRollout(ctx, r.ID, false, nil)
		stopped <- err
	}()
	b.until("a migration runs", func() bool { return one[bool](b, super, sleeps, acme.Database) })
	began := time.Now()
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) || time.Since(began) > 8*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	row := b.targets(r.ID)["acme"]
	if row.State != catalog.TargetWaiting || row.Attempts != 0 || row.Error != "" {
		t.Errorf("%+v", row)
	}
	b.until("nothing of it is left", func() bool { return !one[bool](b, super, sleeps, acme.Database) })
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
