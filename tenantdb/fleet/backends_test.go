package fleet_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// routed logs in as a tenant's role, as a node's router does.
func (b *bench) routed(t catalog.Tenant, node string) *pgx.Conn {
	b.Helper()
	route, err := b.cat.Route(b.Context(), t.ID)
	b.ok(err)
	cfg := route.Config.Copy()
	cfg.RuntimeParams["application_name"] = "freehold-router/" + node
	conn, err := pgx.ConnectConfig(b.Context(), cfg)
	b.ok(err)
	b.closeLater(conn)
	return conn
}

// within waits until cond holds.
func (b *bench) within(d time.Duration, what string, cond func() bool) {
	b.Helper()
	for end := time.Now().Add(d); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s: not within %s", what, d)
		}
	}
}

func newNode() string { return uuid.Must(uuid.NewV7()).String() }

func TestBackends(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.create("acme")
	servers, err := b.cat.Servers(ctx)
	b.ok(err)
	server, node, other := servers[0].ID, newNode(), newNode()
	// Who looks is no superuser, and not in the tenant's role.
	var super, member bool
	b.ok(b.super("postgres").QueryRow(ctx, `
		select r.rolsuper, pg_has_role(r.oid, $2, 'usage') from pg_roles r where r.rolname = $1`,
		servers[0].AdminUser, acme.Role).Scan(&super, &member))
	if super || member {
		t.Fatalf("the admin is a superuser (%v) or has the tenant's rights (%v)", super, member)
	}

	one, two := b.routed(acme, node), b.routed(acme, other)
	stranger, err := b.as(acme, acme.Database)
	b.ok(err)
	asked := []uint32{one.PgConn().PID(), two.PgConn().PID(), stranger.PgConn().PID(), 1 << 30}
	want := func(pids ...uint32) {
		t.Helper()
		alive, err := b.fleet.Backends(ctx, server, asked)
		b.ok(err)
		slices.Sort(alive)
		slices.Sort(pids)
		if !slices.Equal(alive, pids) {
			t.Errorf("alive %d, want %d", alive, pids)
		}
	}
	count := func(node string) int {
		t.Helper()
		n, err := b.fleet.NodeBackends(ctx, server, node)
		b.ok(err)
		return n
	}
	want(asked[0], asked[1])
	if n, none := count(node), count(newNode()); n != 1 || none != 0 {
		t.Errorf("%d and %d backends of nodes with one and none", n, none)
	}
	b.ok(one.Close(ctx))
	b.within(5*time.Second, "gone", func() bool { return count(node) == 0 })
	want(asked[1])
	if alive, err := b.fleet.Backends(ctx, server, nil); err != nil || alive != nil {
		t.Errorf("of none: %d, %v", alive, err)
	}
	_, err = b.fleet.NodeBackends(ctx, newNode(), node)
	if !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unknown server: %v", err)
	}
	if _, err = b.fleet.NodeBackends(ctx, "pg-1", node); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("no id: %v", err)
	}
}

// A silent node's share returns when its last backend is gone, not before.
func TestDropSilentShare(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.create("acme")
	servers, err := b.cat.Servers(ctx)
	b.ok(err)
	server, node, other := servers[0].ID, newNode(), newNode()
	const dead = 300 * time.Millisecond
	ask := func(node string) catalog.Share {
		t.Helper()
		s, err := b.cat.Share(ctx, node, catalog.ShareAsk{Server: server}, dead)
		b.ok(err)
		return s
	}
	drop := func() bool {
		t.Helper()
		done, err := b.fleet.DropSilentShare(ctx, server, node, dead)
		b.ok(err)
		return done
	}
	ask(node)
	conn := b.routed(acme, node)
	b.within(5*time.Second, "silent", func() bool { return slices.Contains(ask(other).Silent, node) })
	if drop() {
		t.Error("dropped beside a backend")
	}
	b.ok(conn.Close(ctx))
	b.within(5*time.Second, "dropped", drop)
	if s := ask(other); s.Granted != s.Budget-s.Budget/10 || s.Silent != nil {
		t.Errorf("after it: %+v", s)
	}
	ask(node)
	if done, err := b.fleet.DropSilentShare(ctx, server, node, time.Minute); err != nil || done {
		t.Errorf("dropped a node that asks: %v, %v", done, err)
	}
}

// The locks of a process that vanished are not held for hours.
func TestSessionsNoticeDeadPeers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn, err := b.fleet.Admin(t.Context(), "pg-1")
	b.ok(err)
	b.closeLater(conn)
	for name, want := range map[string]string{
		"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
		"tcp_user_timeout": "25000", "application_name": "freehold-fleet",
	} {
		if got := one[string](b, conn, "show "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
