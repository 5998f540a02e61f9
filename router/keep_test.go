package router_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/router"
	"freehold/tenantdb"
)

// journal is a log that several goroutines write.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// lines are those that hold what.
func (j *journal) lines(what string) (found []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, what) {
			found = append(found, line)
		}
	}
	return found
}

func TestLease_ALongOneIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var log journal
	s := setup(t, 1, func(c *router.Config) {
		c.LeaseWarn = 100 * time.Millisecond
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	release := s.occupy(t, s.ids[0], 1)
	soon(t, "logged", func() bool { return len(log.lines(`msg="long lease"`)) > 0 })
	time.Sleep(1200 * time.Millisecond) // the housekeeper's next round
	told := log.lines(`msg="long lease"`)
	if len(told) != 1 {
		t.Errorf("logged %d times", len(told))
	}
	if !strings.Contains(told[0], s.ids[0].String()) || !strings.Contains(told[0], "router_test.(*bundle).occupy") {
		t.Errorf("want the tenant and who took it in %q", told[0])
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	soon(t, "its end too", func() bool { return len(log.lines("long lease ended")) == 1 })
}

// heap is what is in use once the garbage is gone.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// An idle tenant costs its record: no goroutine, and no more than 1 KB. Not in
// parallel, because others' memory and goroutines would count.
func TestIdleTenantCostsItsRecordAlone(t *testing.T) { //nolint:paralleltest // measures the process
	const tenants = 2000
	refuse := &pgx.ConnConfig{}
	*refuse = *parse(t, pgtest.SuperURL(t))
	refuse.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	r, err := router.New(router.Config{
		MaxPools: 1, IdleTimeout: 50 * time.Millisecond,
		Route: func(_ context.Context, id catalog.TenantID, _ int64) (catalog.Route, error) {
			return catalog.Route{Tenant: id, State: catalog.Active, Epoch: 1, ServerID: "one", Config: refuse}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	come := func(n int) {
		for range n {
			err := r.For(catalog.NewTenantID(), 1).Borrow(t.Context(), tenantdb.Interactive, nothing)
			if !errors.Is(err, tenantdb.ErrUnavailable) {
				t.Fatalf("got %v, want ErrUnavailable", err)
			}
		}
		soon(t, "no pool left", func() bool { return r.Stats().Pools+r.Stats().Closing == 0 })
	}
	come(10) // what is made once
	before, goroutines := heap(), runtime.NumGoroutine()
	come(tenants)
	soon(t, "no goroutine more", func() bool { return runtime.NumGoroutine() <= goroutines })
	each := (int64(heap()) - int64(before)) / tenants
	runtime.KeepAlive(r)
	if each > 1024 {
		t.Errorf("%d bytes a tenant, want at most 1024", each)
	}
	t.Logf("%d bytes a tenant", each)
}

// Made-up ids cost one look-up each for as long as a refusal is remembered.
func TestGate_AFloodOfMadeUpIDs(t *testing.T) {
	t.Parallel()
	const ids, borrows, callers = 100, 5000, 25
	s := setup(t, 0, nil)
	strangers := make([]catalog.TenantID, ids)
	for i := range strangers {
		strangers[i] = catalog.NewTenantID()
	}
	start := time.Now()
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := range borrows / callers {
				s.refused(t, strangers[(c+i)%ids], 0, tenantdb.Interactive, router.ErrUnknown)
			}
		})
	}
	all.Wait()
	seconds := int(time.Since(start)/time.Second) + 1
	if got := s.book.asked(); got > ids*seconds {
		t.Errorf("%d look-ups in %d s for %d ids", got, seconds, ids)
	}
	if got := s.Stats(); got.Pools != 0 || got.Conns != 0 {
		t.Errorf("they cost a pool: %+v", got)
	}
}
