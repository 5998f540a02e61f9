// Package pgtest gives each test a database of its own on a real Postgres: one
// private server for a test process, started at first use, and databases cloned
// from templates that hold the migrated schemas. A test that can't have its
// database fails.
//
// It is for tests alone and never linked into the program.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"freehold/migrations/localpg"
)

// KeepEnv names the variable that, when set, keeps the server's data after the
// run, with the databases of failed tests in it.
const KeepEnv = "FREEHOLD_PGTEST_KEEP"

// MainLeak is for TestMain: it runs the tests, ends the server, and exits with the
// tests' code. Once all has passed and the server has ended, a goroutine that is
// left fails the run.
func MainLeak(m *testing.M, options ...goleak.Option) {
	code := run(m)
	if code == 0 {
		if err := goleak.Find(options...); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: goroutines left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func run(m *testing.M) int {
	// What libpq's variables say in the tester's shell is about another server.
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name)
		}
	}
	process.mu.Lock()
	process.running = true
	process.mu.Unlock()
	defer stop()
	return m.Run()
}

// server is the one Postgres of this process, with pools to its database
// postgres.
type server struct {
	folder  string
	pg      *localpg.Server
	super   *pgxpool.Pool
	admin   *pgxpool.Pool
	catalog template // with Freehold's own schema alone
	built   template // catalog, and what CatalogFrom's build made of it
	tenant  template
}

// process is the state of this test process; mu guards all of it.
var process struct {
	mu      sync.Mutex
	running bool // inside MainLeak
	server  *server
	err     error // of the start; it isn't tried twice
}

// setupTime bounds what is made once for all tests, and so can't be bound to
// the context of the one that comes first.
const setupTime = time.Minute

// get returns the server, started at the first call.
func get(t testing.TB) *server {
	t.Helper()
	process.mu.Lock()
	defer process.mu.Unlock()
	if !process.running {
		t.Fatal("pgtest: TestMain must call pgtest.MainLeak")
	}
	if process.server == nil && process.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), setupTime)
		defer cancel()
		process.server, process.err = start(ctx)
	}
	if process.err != nil {
		t.Fatalf("pgtest: %v", process.err)
	}
	return process.server
}

func start(ctx context.Context) (*server, error) {
	sweep()
	folder, err := os.MkdirTemp(base(), folderPrefix)
	if err != nil {
		return nil, err
	}
	s := newServer(folder)
	if from := sharedFolder(); from != "" {
		if err := fill(ctx, from, folder); err != nil {
			return nil, errors.Join(err, os.RemoveAll(folder))
		}
	}
	if err := s.launch(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	if err := s.prepare(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func newServer(folder string) *server {
	s := &server{folder: folder}
	s.catalog = template{name: "catalog_template", build: s.buildCatalog}
	s.built = template{name: "built_catalog_template"}
	s.tenant = template{name: "tenant_template", build: s.buildTenant}
	return s
}

// launch starts the server on its folder.
func (s *server) launch(ctx context.Context) (err error) {
	s.pg, err = localpg.Start(ctx, localpg.Config{DataDir: s.folder, MaxConnections: 300, NoSync: true})
	return err
}

func stop() {
	process.mu.Lock()
	defer process.mu.Unlock()
	process.running = false
	stopSecond()
	if process.server != nil {
		process.server.close()
		process.server = nil
	}
}

func (s *server) closePools() {
	for _, pool := range []*pgxpool.Pool{s.super, s.admin} {
		if pool != nil {
			pool.Close()
		}
	}
}

func (s *server) close() {
	s.closePools()
	// The process ends after this, so there is no context left to heed.
	if err := s.pg.Stop(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
	}
	if os.Getenv(KeepEnv) != "" {
		_ = os.Remove(filepath.Join(s.pg.Folder(), "lock")) // by which sweep knows what it may remove
		fmt.Fprintf(os.Stderr, "pgtest: data kept in %s (cluster pgdata, superuser's password in file password)\n", s.pg.Folder())
		return
	}
	// Elsewhere is another folder when the server's account can't reach the first.
	if err := errors.Join(os.RemoveAll(s.folder), os.RemoveAll(s.pg.Folder())); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
	}
}
