package router_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/router"
	"freehold/tenantdb"
)

// endSessions ends all of a database's connections.
func endSessions(t testing.TB, database string) {
	t.Helper()
	super(t, `select count(pg_terminate_backend(pid, 2000)) from pg_stat_activity where datname = $1`, database)
}

// served reports whether a borrow stood in the tenant's database.
func (s *bundle) served(t testing.TB, id catalog.TenantID) bool {
	return s.For(id, 1).Borrow(t.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		got, _, err := whoami(ctx, db)
		if err == nil && got != id {
			t.Errorf("stood in the database of %s, want %s", got, id)
		}
		return err
	}) == nil
}

// The catalog's cache holds the old secret until it is asked for a newer truth:
// the request that finds out is served.
func TestHeal_RotatedPassword(t *testing.T) {
	t.Parallel()
	var rotated atomic.Bool
	s := setup(t, 1, nil)
	id, db := s.ids[0], s.dbs[0]
	r, err := router.New(router.Config{Route: func(ctx context.Context, id catalog.TenantID, minEpoch int64) (catalog.Route, error) {
		route, err := s.book.route(ctx, id, minEpoch)
		if rotated.Load() && minEpoch > route.Epoch {
			route.Epoch++
			route.Config = route.Config.Copy()
			route.Config.Password = "the-new-one-of-this-role"
		}
		return route, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	cached := &bundle{Router: r, book: s.book}
	cached.visit(t, id, 1)
	alterRole(t, db.Role, "password 'the-new-one-of-this-role'")
	rotated.Store(true)
	endSessions(t, db.Database)
	soon(t, "the dead connection noticed", func() bool { return cached.served(t, id) })
	if got := r.Stats(); got.Misses != 1 {
		t.Errorf("a request had to look up: %+v", got)
	}
}

// The catalog learns of the new secret after the server did.
func TestHeal_PasswordThatTheCatalogLearnsLater(t *testing.T) {
	t.Parallel()
	s := setup(t, 1, nil)
	id, db := s.ids[0], s.dbs[0]
	s.visit(t, id, 1)
	alterRole(t, db.Role, "password 'known-to-the-server-alone'")
	endSessions(t, db.Database)
	for range 3 {
		if s.served(t, id) {
			t.Fatal("served with an old password")
		}
	}
	// Nobody tells the router.
	s.book.change(id, func(r *catalog.Route) { r.Config.Password = "known-to-the-server-alone" })
	soon(t, "served with the new one", func() bool { return s.served(t, id) })
}

// A database that is gone is a failure while the catalog still names it, and
// unknown as soon as it doesn't; one that comes back is served.
func TestHeal_DroppedDatabase(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	back, gone := s.ids[0], s.ids[1]
	for i, id := range s.ids {
		s.visit(t, id, 1)
		// Under another name it can come back with all that is in it.
		endSessions(t, s.dbs[i].Database)
		rename(t, s.dbs[i].Database, s.dbs[i].Database+"_away")
		t.Cleanup(func() { rename(t, s.dbs[i].Database+"_away", s.dbs[i].Database) })
		soon(t, "the dead connection noticed", func() bool {
			return s.explain(t, id).Conns == 0 || !s.served(t, id)
		})
		s.refused(t, id, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
	}
	rename(t, s.dbs[0].Database+"_away", s.dbs[0].Database)
	soon(t, "the one that is back is served", func() bool { return s.served(t, back) })

	s.book.mu.Lock()
	delete(s.book.routes, gone)
	s.book.mu.Unlock()
	soon(t, "the other one unknown", func() bool {
		err := s.For(gone, 1).Borrow(t.Context(), tenantdb.Interactive, nothing)
		return errors.Is(err, router.ErrUnknown)
	})
}

// rename renames a database, if it is there.
func rename(t testing.TB, from, to string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), pgtest.SuperURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(context.Background(), fmt.Sprintf("alter database %s rename to %s",
		pgx.Identifier{from}.Sanitize(), pgx.Identifier{to}.Sanitize()))
	if pg, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || pg.Code != "3D000") {
		t.Error(err)
	}
}

// The name stays and its address changes.
func TestHeal_MovedHost(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	before := newRelay(t, "127.0.0.2:0", s.book.routes[s.ids[0]])
	after := newRelay(t, fmt.Sprintf("127.0.0.3:%d", before.addr.Port), s.book.routes[s.ids[0]])
	var mu sync.Mutex
	at := "127.0.0.2"
	for _, id := range s.ids {
		s.book.change(id, func(r *catalog.Route) {
			r.Config.Host, r.Config.Port = "db.test", uint16(before.addr.Port)
			r.Config.LookupFunc = func(_ context.Context, host string) ([]string, error) {
				mu.Lock()
				defer mu.Unlock()
				if host != "db.test" {
					t.Errorf("looked %s up", host)
				}
				return []string{at}, nil
			}
		})
		s.visit(t, id, 1)
	}
	if after.taken() != 0 {
		t.Fatal("the second address was used too early")
	}
	mu.Lock()
	at = "127.0.0.3"
	mu.Unlock()
	before.close()
	for _, id := range s.ids {
		soon(t, "served at the new address", func() bool { return s.served(t, id) })
	}
	if after.taken() == 0 {
		t.Error("nobody came to the second address")
	}
}

// A host that takes connections and never answers costs its own tenants three
// seconds, and nobody else any.
func TestHeal_BlackHole(t *testing.T) {
	t.Parallel()
	s := setup(t, 2, nil)
	lost, elsewhere := s.ids[0], s.ids[1]
	hole := newRelay(t, "127.0.0.5:0", s.book.routes[lost])
	hole.hush(true)
	s.book.change(lost, func(r *catalog.Route) { r.ServerID = "hole"; hole.through(r) })
	s.visit(t, elsewhere, 1)

	start, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		s.refused(t, lost, 1, tenantdb.Interactive, tenantdb.ErrUnavailable)
	}()
	visits := 0
	for waiting := true; waiting; visits++ {
		one := time.Now()
		s.visit(t, elsewhere, 1)
		if took := time.Since(one); took > time.Second {
			t.Errorf("another server's tenant waited %s", took)
		}
		select {
		case <-done:
			waiting = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	if took := time.Since(start); took < 2*time.Second || took > 4*time.Second {
		t.Errorf("refused after %s, want 3 s", took)
	}
	if visits < 20 {
		t.Errorf("the other was served %d times only", visits)
	}
	hole.hush(false)
	soon(t, "served when it answers", func() bool { return s.served(t, lost) })
}
