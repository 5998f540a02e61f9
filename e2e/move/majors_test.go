//go:build e2e

package move_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/e2e/pgcontainer"
)

// newer returns an image of a newer major of Postgres, and the folder of its client
// programs, as e2e/image/newer.sh prints them. Both are empty where there is none.
func newer(t *testing.T) (image, programs string) {
	t.Helper()
	fields := strings.Fields(os.Getenv("FREEHOLD_E2E_NEWER"))
	if len(fields) != 2 {
		t.Log("no newer major of Postgres could be had (FREEHOLD_E2E_NEWER): both servers are of the same one")
		return "", ""
	}
	return fields[0], fields[1]
}

// contained takes in a server in a container, whose admin has the rights that README
// names for moves by replication: of Postgres 15, a superuser's.
func (g *ground) contained(t *testing.T, name, image string) *pgcontainer.Server {
	t.Helper()
	s := pgcontainer.Start(t, pgcontainer.Options{Image: image, OnHost: true})
	g.supers[name] = s.SuperURL("postgres")
	rights := []string{"alter role " + pgcontainer.Admin + " superuser"}
	if read[int](g, g.at(name, "postgres"), "select current_setting('server_version_num')::int") >= 16_00_00 {
		rights = []string{
			"alter role " + pgcontainer.Admin + " replication",
			"grant pg_create_subscription to " + pgcontainer.Admin,
			"grant create on database postgres to " + pgcontainer.Admin,
			"grant connect on database postgres to " + pgcontainer.Admin + " with grant option",
		}
	}
	s.Exec(t, "postgres", rights...)
	g.addServer(name, s.SuperURL("postgres"), s.AdminURL("postgres"))
	return s
}

// The way to a new major of Postgres: one tenant is moved to a server that has it, the
// others are drained onto it, while they are asked. Then that server stops: its tenants
// are told to come back, and who lives elsewhere notices nothing. It starts again, and
// all are served.
func TestDrainOntoANewerServer(t *testing.T) {
	t.Parallel()
	image, programs := newer(t)
	g := setup(t, time.Minute)
	if programs != "" {
		// A copy needs pg_dump of the newer one.
		g.env = append(g.env, "FREEHOLD_PG_BIN="+programs)
	}
	g.contained(t, "pg-1", "")
	first, second := g.start(nil), g.start([]string{"--no-worker"})
	slugs := []string{"acme", "globex", "initech", "hooli", "vandelay", "idle"}
	tenants, keys := map[string]catalog.Tenant{}, map[string]string{}
	for _, slug := range slugs {
		tenants[slug], keys[slug] = g.tenant(slug)
	}
	g.ok(g.fleet.Suspend(t.Context(), tenants["idle"].ID))
	target := g.contained(t, "pg-2", image)
	from, to := g.version("pg-1"), g.version("pg-2")
	t.Logf("from Postgres %d to %d", from, to)
	if image != "" && to <= from {
		t.Fatalf("%s isn't newer", image)
	}
	g.await(first, second)

	asks := map[string]*load{}
	for _, slug := range []string{"acme", "globex", "initech"} {
		asks[slug] = begin(t, keys[slug], 80*time.Millisecond, first, second)
		asks[slug].await(g, 8)
	}
	t.Logf("acme was paused for %s", g.move("acme", "pg-2"))
	// As many at a time as Postgres has workers of replication, unless it is told
	// otherwise: they have to take turns.
	drained := time.Now()
	g.done("server", "drain", "pg-1", "--to", "pg-2", "--yes", "--parallel", "4")
	t.Logf("the others were drained in %s", time.Since(drained).Round(time.Second/10))
	for slug, l := range asks {
		l.await(g, 8)
		l.end()
		l.unfelt(g, slug, askTime)
	}
	for _, slug := range slugs {
		now, err := g.cat.Tenant(t.Context(), tenants[slug].ID)
		g.ok(err)
		want := catalog.Active
		if slug == "idle" {
			want = catalog.Suspended
		}
		if now.Server != "pg-2" || now.State != want {
			t.Errorf("%s is %s on %s", slug, now.State, now.Server)
		}
		if l := asks[slug]; l != nil {
			g.leftBehind(now, 1, g.balanced(now, "pg-2", l.names()))
			g.done("audit", "verify", slug)
		}
	}
	g.ok(g.fleet.Resume(t.Context(), tenants["idle"].ID))
	g.done("doctor")

	// There is no way back to an older one.
	g.done("server", "set", "pg-1", "--state", "active")
	if from == to {
		g.claim("pg-1", from-1)
	}
	g.refusedMove("acme", "pg-1")
	if from == to {
		g.claim("pg-1", from)
	}

	late, lateKey, err := g.fleet.Create(t.Context(), catalog.TenantSpec{Slug: "late", Server: "pg-1"})
	g.ok(err)
	bystander := begin(t, lateKey, 80*time.Millisecond, first, second)
	bystander.await(g, 8)
	target.Stop(t)
	outage := []*pesterer{pester(t, keys["acme"], first), pester(t, keys["hooli"], second)}
	for _, p := range outage {
		p.refusals(g, 5, time.Now())
	}
	bystander.await(g, 20)
	target.Resume(t)
	for _, p := range outage {
		served := p.served()
		g.until("the tenant is served again", startTime, func() bool { return p.served() > served+3 })
		p.end()
		p.judge(g, "a tenant of the server that stopped", time.Time{}, time.Time{})
	}
	for _, slug := range slugs {
		l := begin(t, keys[slug], 10*time.Millisecond, first, second)
		l.await(g, 8)
		l.end()
		l.unfelt(g, slug, askTime)
	}
	bystander.end()
	bystander.unfelt(g, "late", 8*time.Second)
	g.balanced(late, "pg-1", bystander.names())
}

// version is the major that a server says it is of.
func (g *ground) version(server string) int {
	g.Helper()
	return read[int](g, g.at(server, "postgres"), "select current_setting('server_version_num')::int") / 1_00_00
}

// claim has the catalog believe that a server is of another major.
func (g *ground) claim(server string, major int) {
	g.Helper()
	conn, err := pgx.Connect(g.Context(), strings.TrimPrefix(g.env[0], "FREEHOLD_CATALOG_URL="))
	g.ok(err)
	defer conn.Close(context.WithoutCancel(g.Context()))
	_, err = conn.Exec(g.Context(), "update servers set version = $2 where name = $1", server, major*1_00_00)
	g.ok(err)
}

// refusedMove fails unless the move to a server of an older major is refused before
// anything changes.
func (g *ground) refusedMove(slug, to string) {
	g.Helper()
	last := g.lastMove(catalog.Tenant{Slug: slug})
	p := g.begin("tenant", "move", slug, "--to", to)
	if code := p.Wait(g, commandTime); code != 1 || !strings.Contains(p.Stderr.String(), "older") {
		g.Errorf("a move to an older major: exit status %d\n%s%s", code, p.Stdout, p.Stderr)
	}
	if now := g.lastMove(catalog.Tenant{Slug: slug}); now.ID != last.ID {
		g.Errorf("operation %s was begun", now.ID)
	}
}
