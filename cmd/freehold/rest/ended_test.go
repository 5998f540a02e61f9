package rest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/inference/engine"
	"freehold/router"
	"freehold/tenantdb"
)

// of runs a handler for a tenant, as its gate would.
func of(tenant string, fn func(ctx context.Context) (*rest.Reply, error)) rest.Route[nobody] {
	return rest.Route[nobody]{
		Method: "GET", Path: "/" + tenant, Summary: "test",
		Endpoint: rest.Raw[thing, thing](func(ctx context.Context, _ nobody, r *rest.Request) (*rest.Reply, error) {
			r.Tenant = tenant
			return fn(ctx)
		}),
	}
}

// setupEnded serves routes, and returns what was said of their tenants.
func setupEnded(t *testing.T, routes ...rest.Route[nobody]) (*bundle, <-chan rest.Ended) {
	t.Helper()
	l := &logs{}
	d, err := rest.New(rest.Config{Title: "test", Logger: slog.New(slog.NewTextHandler(l, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan rest.Ended, 100)
	d.ObserveTenants(func(e rest.Ended) { ended <- e })
	rest.Mount(d, open, routes)
	return serve(t, d, l), ended
}

// What counts against the platform is what it failed, and nothing else.
func TestObserveTenants(t *testing.T) {
	t.Parallel()
	const served, failed, neither = "served", "failed", "neither"
	cases := []struct {
		tenant, want string
		err          error
	}{
		{"fine", served, nil},
		{"bad", neither, rest.Bad("x", "no")},
		{"unknown", neither, fmt.Errorf("find: %w", tenantdb.ErrNotFound)},
		{"forbidden", neither, rest.ErrScope},
		{"suspended", neither, router.ErrSuspended},
		{"engine", neither, fmt.Errorf("ask: %w", &engine.Error{Kind: engine.Failed})},
		{"slow-engine", neither, &engine.Error{Kind: engine.Timeout}},
		{"stopping", neither, rest.ErrShuttingDown},
		{"closed", neither, router.ErrClosed},
		{"upgrading", failed, router.ErrUpgrading},
		{"full", failed, &router.Busy{RetryAfter: time.Second}},
		{"away", failed, fmt.Errorf("read: %w", tenantdb.ErrUnavailable)},
		{"catalog", failed, catalog.ErrUnavailable},
		{"late", failed, context.DeadlineExceeded},
		{"broken", failed, errors.New("column gone")},
	}
	var routes []rest.Route[nobody]
	for _, c := range cases {
		routes = append(routes, of(c.tenant, func(context.Context) (*rest.Reply, error) { return rest.OK(thing{}), c.err }))
	}
	routes = append(routes, get("/nobody", func(context.Context, *rest.Request) (any, error) { return nil, errors.New("x") }))
	b, ended := setupEnded(t, routes...)
	b.do("GET", "/nobody", "")
	for _, c := range cases {
		began := time.Now()
		b.do("GET", "/"+c.tenant, "")
		got := neither
		select {
		case e := <-ended:
			got = served
			if e.Failed {
				got = failed
			}
			if e.Tenant != c.tenant || e.Took <= 0 || e.Took > time.Since(began) {
				t.Errorf("%s: %+v", c.tenant, e)
			}
		default: // it is told before the answer goes out
		}
		if got != c.want {
			t.Errorf("%s counts as %s, want %s", c.tenant, got, c.want)
		}
	}
}

// A stream is as quick as its first event, and fails as a plain answer does.
func TestObserveTenants_Streams(t *testing.T) {
	t.Parallel()
	const after = 200 * time.Millisecond
	stream := func(err error) func(context.Context) (*rest.Reply, error) {
		return func(context.Context) (*rest.Reply, error) {
			return rest.Stream(func(_ context.Context, send func(any) error) error {
				sent := send(thing{})
				time.Sleep(after)
				return errors.Join(sent, err)
			}), nil
		}
	}
	b, ended := setupEnded(t, of("fine", stream(nil)), of("broken", stream(tenantdb.ErrUnavailable)),
		of("engine", stream(&engine.Error{Kind: engine.Failed})))
	began := time.Now()
	var got []rest.Ended
	for _, tenant := range []string{"engine", "fine", "broken"} {
		b.do("GET", "/"+tenant, "")
	}
	for range 2 {
		select {
		case e := <-ended:
			if e.Took <= 0 || e.Took > time.Since(began)-after {
				t.Errorf("%s took %s", e.Tenant, e.Took)
			}
			e.Took = 0
			got = append(got, e)
		case <-time.After(5 * time.Second):
			t.Fatalf("told of %+v alone", got)
		}
	}
	if !slices.Equal(got, []rest.Ended{{Tenant: "fine"}, {Tenant: "broken", Failed: true}}) {
		t.Errorf("told of %+v", got)
	}
}

// How long an upload takes to arrive is its client's doing.
func TestObserveTenants_Uploads(t *testing.T) {
	t.Parallel()
	const slow = 300 * time.Millisecond
	b, ended := setupEnded(t, upload("/up", 0, func(ctx context.Context, r *rest.Request) (received, error) {
		r.Tenant = "fine"
		return readAll(ctx, r)
	}))
	body, media := formOf(t, strings.Repeat("x", 12<<10))
	nc, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, head("/up", media, lengthOf(body))+body[:9<<10])
	time.Sleep(slow)
	_, _ = io.WriteString(nc, body[9<<10:])
	select {
	case e := <-ended:
		if e.Failed || e.Took <= 0 || e.Took > slow/2 {
			t.Errorf("told of %+v", e)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("told of nothing")
	}
}
