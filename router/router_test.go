package router_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/router"
	"freehold/tenantdb"
)

func TestMain(m *testing.M) {
	pgtest.MainLeak(m)
}

// book is a catalog of a few rows: what Config.Route is to the router.
type book struct {
	mu      sync.Mutex
	routes  map[catalog.TenantID]catalog.Route
	lookups int
	hold    chan struct{} // when set, look-ups wait until it is closed
	err     error         // when set, look-ups fail
}

func (b *book) route(ctx context.Context, id catalog.TenantID, _ int64) (catalog.Route, error) {
	b.mu.Lock()
	b.lookups++
	route, ok := b.routes[id]
	hold, err := b.hold, b.err
	b.mu.Unlock()
	if err != nil {
		return catalog.Route{}, err
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return catalog.Route{}, ctx.Err()
		}
	}
	if !ok {
		return catalog.Route{}, catalog.ErrNotFound
	}
	return route, nil
}

// change writes a new truth and returns its epoch.
func (b *book) change(id catalog.TenantID, edit func(*catalog.Route)) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	route := b.routes[id]
	route.Epoch++
	route.Config = route.Config.Copy()
	edit(&route)
	b.routes[id] = route
	return route.Epoch
}

// fail has look-ups fail with err; nil ends that.
func (b *book) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *book) asked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lookups
}

type bundle struct {
	*router.Router
	book *book
	ids  []catalog.TenantID
	dbs  []pgtest.TenantDB
}

// setup makes tenants with a database each and a router to them. Every tenant is
// active at epoch 1.
func setup(t testing.TB, tenants int, edit func(*router.Config)) *bundle {
	t.Helper()
	s := &bundle{book: &book{routes: make(map[catalog.TenantID]catalog.Route)}}
	for range tenants {
		db := pgtest.Tenant(t)
		id, err := catalog.ParseTenantID(db.ID.String())
		if err != nil {
			t.Fatal(err)
		}
		s.ids, s.dbs = append(s.ids, id), append(s.dbs, db)
		s.book.routes[id] = catalog.Route{
			Tenant: id, State: catalog.Active, Epoch: 1, ServerID: "one", SchemaVersion: 1,
			Config: parse(t, db.TenantURL),
		}
	}
	// A move that doesn't end is found out soon.
	cfg := router.Config{Route: s.book.route, PauseWait: 50 * time.Millisecond}
	if edit != nil {
		edit(&cfg)
	}
	r, err := router.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Router = r
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func parse(t testing.TB, url string) *pgx.ConnConfig {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// super runs one statement as the superuser and returns its number.
func super(t testing.TB, sql string, args ...any) (n int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.SuperURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// backends counts the server's connections to a database.
func backends(t testing.TB, database string) int64 {
	t.Helper()
	return super(t, `select count(*) from pg_stat_activity where datname = $1`, database)
}

// whoami returns whose database a borrow stands in and its backend's pid.
func whoami(ctx context.Context, db *tenantdb.DB) (id catalog.TenantID, pid int64, err error) {
	err = db.Tx(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `select i.tenant, pg_backend_pid() from freehold.tenant_identity i`).Scan(&id, &pid)
	})
	return id, pid, err
}

// visit borrows once and checks that it stood in the tenant's own database.
func (s *bundle) visit(t testing.TB, id catalog.TenantID, epoch int64) (pid int64) {
	t.Helper()
	err := s.For(id, epoch).Borrow(t.Context(), tenantdb.Interactive,
		func(ctx context.Context, db *tenantdb.DB) error {
			got, p, err := whoami(ctx, db)
			if err == nil && got != id {
				t.Errorf("stood in the database of %s, want %s", got, id)
			}
			pid = p
			return err
		})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// refused borrows once and wants an error.
func (s *bundle) refused(t testing.TB, id catalog.TenantID, epoch int64, class tenantdb.Class, want error) {
	t.Helper()
	err := s.For(id, epoch).Borrow(t.Context(), class, func(context.Context, *tenantdb.DB) error {
		t.Error("was served")
		return nil
	})
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// occupy borrows until release is called.
func (s *bundle) occupy(t testing.TB, id catalog.TenantID, epoch int64) (release func() error) {
	t.Helper()
	in, out, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.For(id, epoch).Borrow(context.WithoutCancel(t.Context()), tenantdb.Interactive,
			func(ctx context.Context, db *tenantdb.DB) error {
				close(in)
				<-out
				_, _, err := whoami(ctx, db)
				return err
			})
	}()
	select {
	case <-in:
	case err := <-done:
		t.Fatalf("occupy: %v", err)
	}
	return sync.OnceValue(func() error {
		close(out)
		return <-done
	})
}

// soon waits until ok holds.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	soonWithin(t, 5*time.Second, what, ok)
}

func soonWithin(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", d, what)
		}
	}
}
