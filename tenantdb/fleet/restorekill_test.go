package fleet_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// restorePoints are the points at which a restore is killed: in the short form in the
// pause, and before a new tenant's database bears its name. Behind a restore's change of
// names it is killed where it can't be cancelled any more.
func restorePoints() (inPlace, as []string) {
	if pgtest.Long() {
		return fleet.RestorePoints(), fleet.RebornPoints()
	}
	return []string{"restore/switch:closed"}, []string{"onboard/identity:owned"}
}

// Killed with -9 at each step, a restore comes to its end: the tenant is served from one
// database, which has what the backup had, and nothing is left.
func TestRestore_survivesKill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, cfg := b.bucket()
	f := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	o := b.orders(cfg)
	o.Heartbeat = 5 * beat // it must not lose its operation before it dies
	inPlace, as := restorePoints()
	var mu sync.Mutex
	restored := map[string]catalog.Tenant{}
	atOnce(slices.Concat(inPlace, as), func(point string) {
		made := b.spoilt(f, slugOf(point))
		mu.Lock()
		restored[point] = made
		mu.Unlock()
		o := o
		o.Restore, o.DieAt = made.Slug, point
		if strings.HasPrefix(point, catalog.KindOnboard) {
			o.As = "new-" + made.Slug
		}
		b.dies(o)
	})
	if t.Failed() {
		return
	}
	b.work(f)
	b.settled(60 * time.Second)
	for point, made := range restored {
		if slices.Contains(as, point) {
			another, err := b.cat.TenantBySlug(t.Context(), "new-"+made.Slug)
			b.ok(err)
			made = another
		}
		made, err := b.cat.Tenant(t.Context(), made.ID)
		b.ok(err)
		b.whole(made, store)
		in := b.super(made.Database)
		if got := one[string](b, in, "select string_agg(what, ',') from orders"); got != "whole" {
			t.Errorf("%s: it has %s", point, got)
		}
		report, err := f.VerifyAudit(t.Context(), made.ID, fleet.AuditLook{})
		b.ok(err)
		if !report.OK || len(report.Restores) != 1 {
			t.Errorf("%s: audit %+v", point, report)
		}
		want := 1
		if slices.Contains(as, point) {
			want = 0
		}
		list, err := b.cat.KeptDatabases(t.Context(), catalog.KeptFilter{Tenant: made.ID})
		b.ok(err)
		left := one[int](b, in, "select count(*)::int from pg_database where datname ~ ('^freehold_(kept|restore)_' || $1)", strings.TrimPrefix(made.Database, "t_"))
		if len(list) != want || left != want {
			t.Errorf("%s: %d databases are set aside, and %d kept", point, left, len(list))
		}
	}
	b.nothingLeft(store)
}

// spoilt is a tenant that has a backup from before its rows were spoilt.
func (b *bench) spoilt(f *fleet.Fleet, slug string) catalog.Tenant {
	b.Helper()
	made, _, err := f.Create(b.Context(), catalog.TenantSpec{Slug: slug})
	if err != nil {
		b.Error(err)
		return made
	}
	exec := func(sql string) {
		conn := b.super(made.Database)
		_, err := conn.Exec(b.Context(), sql)
		b.ok(errors.Join(err, conn.Close(b.Context())))
	}
	exec("create table orders as select 'whole' as what; alter table orders owner to freehold_owner")
	if _, err := f.Backup(b.Context(), made.ID, fleet.BackupOptions{Actor: "ops"}); err != nil {
		b.Error(err)
	}
	exec("update orders set what = 'spoilt'")
	return made
}

// Cancelled, a restore leaves its tenant as it was, and nothing else; also when its
// worker was killed in the pause. Behind the change of names it goes forward only.
func TestRestore_isCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, cfg := b.bucket()
	f := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	made := b.spoilt(f, "acme")
	o := b.orders(cfg)
	for _, c := range []struct {
		point string
		back  bool
	}{{"restore/switch:kept", true}, {"restore/switch:renamed", false}} {
		o.Restore, o.DieAt = made.Slug, c.point
		b.dies(o)
		b.lapse()
		list, err := b.cat.Operations(t.Context(), catalog.OperationFilter{Kind: catalog.KindRestore, Limit: 1})
		b.ok(err)
		op, err := f.CancelOperation(t.Context(), list[0].ID, "ops")
		what := "spoilt"
		if c.back && (err != nil || op.State != catalog.OperationCancelled) {
			t.Fatalf("%s: %+v %v", c.point, op, err)
		}
		if !c.back {
			what = "whole"
			if err == nil {
				t.Errorf("%s: cancelled", c.point)
			}
			b.ok(f.Do(t.Context(), op.ID))
		}
		now, err := b.cat.Tenant(t.Context(), made.ID)
		b.ok(err)
		conn, err := b.as(now, now.Database)
		b.ok(err)
		b.ok(b.admit(conn, now.Epoch))
		in := b.super(made.Database)
		if got := one[string](b, in, "select string_agg(what, ',') from orders"); got != what {
			t.Errorf("%s: it has %s", c.point, got)
		}
		b.ok(in.Close(t.Context()))
		b.nothingLeft(store)
	}
}
