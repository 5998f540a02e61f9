package router_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/router"
	"freehold/tenantdb"
)

// overwrite puts another tenant's id into a database's identity row.
func overwrite(t testing.TB, db pgtest.TenantDB, id catalog.TenantID) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), `update freehold.tenant_identity set tenant = $1`, id); err != nil {
		t.Fatal(err)
	}
}

func TestInvalidate_KeepsAWarmPoolWhoseTargetStayed(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	id := s.ids[0]
	pid := s.visit(t, id, 1)
	epoch := s.book.change(id, func(r *catalog.Route) { r.Slug, r.Budget = "renamed", 7 })
	s.Invalidate(id, epoch)
	soon(t, "looked up off the request path", func() bool { return s.book.asked() == 2 && s.Stats().Opening == 0 })
	if got := s.visit(t, id, epoch); got != pid {
		t.Errorf("another connection: pid %d, had %d", got, pid)
	}
	if s.book.asked() != 2 || s.Stats().Misses != 1 {
		t.Errorf("%d look-ups and %d misses, want 2 and 1", s.book.asked(), s.Stats().Misses)
	}
	s.Invalidate(id, epoch)
	s.Invalidate(catalog.NewTenantID(), epoch)
	if s.book.asked() != 2 {
		t.Error("looked up what was known, or what has no pool")
	}
}

func TestInvalidate_RenewsAPoolWhoseSecretChanged(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	id, db := s.ids[0], s.dbs[0]
	pid := s.visit(t, id, 1)
	alterRole(t, db.Role, "password 'another-password-of-this-role'")
	epoch := s.book.change(id, func(r *catalog.Route) { r.Config.Password = "another-password-of-this-role" })
	s.Invalidate(id, epoch)
	soon(t, "renewed off the request path", func() bool {
		got := s.Stats()
		return got.Pools == 1 && got.Closing == 0 && got.Opening == 0 && s.book.asked() == 2
	})
	if got := s.visit(t, id, epoch); got == pid {
		t.Error("the old connection is still in use")
	}
	if got := s.Stats(); got.Misses != 1 {
		t.Errorf("a request had to wait: %+v", got)
	}
}

// alterRole changes a login role as the superuser.
func alterRole(t testing.TB, role, change string) {
	t.Helper()
	superExec(t, "alter role "+pgx.Identifier{role}.Sanitize()+" "+change)
}

// superExec runs a statement that answers nothing as the superuser.
func superExec(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.SuperURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// Suspended: everyone is refused at once, settlements go on for a moment, then
// the pool is gone.
func TestInvalidate_ClosesASuspendedTenantsPool(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	id := s.ids[0]
	s.visit(t, id, 1)
	epoch := s.book.change(id, func(r *catalog.Route) { r.State = catalog.Suspended })
	s.Invalidate(id, epoch)
	s.refused(t, id, epoch, tenantdb.Interactive, router.ErrSuspended)
	for _, asOf := range []int64{1, epoch} {
		err := s.For(id, asOf).Borrow(t.Context(), tenantdb.Settle, func(ctx context.Context, db *tenantdb.DB) error {
			_, _, err := whoami(ctx, db)
			return err
		})
		if err != nil {
			t.Errorf("settle at epoch %d: %v", asOf, err)
		}
	}
	start := time.Now()
	soon(t, "closed", func() bool { return s.Stats().Pools == 0 && s.Stats().Closing == 0 })
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("closed after %s, want about a second", took)
	}
	s.refused(t, id, epoch, tenantdb.Settle, router.ErrSuspended)
	epoch = s.book.change(id, func(r *catalog.Route) { r.State = catalog.Active })
	s.visit(t, id, epoch)
}

func TestInvalidate_ClosesADeletedTenantsPool(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	deleting, unknown := s.ids[0], s.ids[1]
	s.visit(t, deleting, 1)
	s.visit(t, unknown, 1)
	s.Invalidate(deleting, s.book.change(deleting, func(r *catalog.Route) { r.State = catalog.Deleting }))
	s.book.mu.Lock()
	delete(s.book.routes, unknown)
	s.book.mu.Unlock()
	s.Invalidate(unknown, 2)
	soon(t, "both closed", func() bool { return s.Stats().Pools == 0 && s.Stats().Closing == 0 })
	s.refused(t, deleting, 1, tenantdb.Interactive, router.ErrUnknown)
	s.refused(t, unknown, 1, tenantdb.Interactive, router.ErrUnknown)
}

// Told while a cold open is under way, the router looks again when that has landed.
func TestInvalidate_DuringAColdOpen(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	id := s.ids[0]
	s.book.hold = make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.For(id, 1).Borrow(t.Context(), tenantdb.Interactive,
			func(context.Context, *tenantdb.DB) error { return nil })
	}()
	soon(t, "at the door", func() bool { return s.book.asked() == 1 })
	epoch := s.book.change(id, func(r *catalog.Route) { r.State = catalog.Moving })
	s.Invalidate(id, epoch)
	close(s.book.hold)
	// It was admitted on the older truth; the newer one may be there before it.
	if err := <-done; err != nil && !errors.Is(err, router.ErrMoving) {
		t.Error(err)
	}
	soon(t, "the pool closed", func() bool { return s.Stats().Pools == 0 })
	s.refused(t, id, 1, tenantdb.Interactive, router.ErrMoving)
}
