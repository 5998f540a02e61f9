package fleet_test

import (
	"net/url"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

func (b *bench) link(source, target string) (why string, known bool) {
	b.Helper()
	why, known, err := b.cat.ServerLink(b.Context(), source, target)
	b.ok(err)
	return why, known
}

// What a server lacks for replication is no refusal, and is said with what mends it;
// what was mended is seen when it is looked at again.
func TestCheckLinks(t *testing.T) {
	t.Parallel()
	b := setup(t) // its admin is no superuser
	ctx := t.Context()
	first, err := b.cat.Server(ctx, "pg-1")
	b.ok(err)
	before16 := first.Version < 160000
	if first.WALLevel != "logical" || first.CanPublish || first.CanSubscribe {
		t.Errorf("%+v", first)
	}
	lacks := strings.Join(fleet.Lacks(first), "\n")
	for _, want := range []string{"moves from here will copy under pause: its admin may not make roles", "moves to here will copy under pause", `"freehold_admin_test"`} {
		if !strings.Contains(lacks, want) {
			t.Errorf("it doesn't say %q:\n%s", want, lacks)
		}
	}
	if before16 != strings.Contains(lacks, `alter role "freehold_admin_test" superuser`) {
		t.Errorf("of Postgres %d: %s", first.Version, lacks)
	}
	u, err := url.Parse(pgtest.SecondSuperURL(t))
	b.ok(err)
	password, _ := u.User.Password()
	second, err := b.fleet.AddServer(ctx, fleet.ServerAdd{
		Name: "pg-2", Password: password, URL: "postgres://" + u.User.Username() + "@" + u.Host + "/postgres?sslmode=disable",
	})
	b.ok(err)
	if !second.CanPublish || !second.CanSubscribe || len(fleet.Lacks(second)) != 0 {
		t.Errorf("%+v", second)
	}
	if why, known := b.link("pg-1", "pg-2"); !known || why != "the admin of server pg-1 may not make roles of replication" {
		t.Errorf("from pg-1: %q, %t", why, known)
	}
	if why, known := b.link("pg-2", "pg-1"); !known || why != "the admin of server pg-1 may not make subscriptions" {
		t.Errorf("to pg-1: %q, %t", why, known)
	}

	// Another one that nobody can reach holds nothing up, and nothing is known of it.
	_, err = b.cat.AddServer(ctx, catalog.ServerSpec{
		Name: "dead", Host: "127.0.0.1", Port: 1, SSLMode: "disable", AdminUser: "a", Password: "p", Version: 150000, MaxConnections: 100,
	})
	b.ok(err)
	if u, err = url.Parse(pgtest.SuperURL(t)); err != nil {
		t.Fatal(err)
	}
	password, _ = u.User.Password()
	mended := b.server()
	mended.Password, mended.URL = password, "postgres://"+u.User.Username()+"@"+u.Host+"/postgres?sslmode=disable"
	_, err = b.fleet.AddServer(ctx, mended)
	b.ok(err)
	for _, pair := range [][2]string{{"pg-1", "pg-2"}, {"pg-2", "pg-1"}} {
		if why, known := b.link(pair[0], pair[1]); !known || why != "" {
			t.Errorf("from %s to %s: %q, %t", pair[0], pair[1], why, known)
		}
	}
	if why, known := b.link("dead", "pg-2"); known {
		t.Errorf("from one that doesn't answer: %q", why)
	}
	// What nobody has tried lately doctor tries.
	_, err = b.catalogDB().Exec(ctx, `update server_links set checked_at = now() - interval '2 days', why = 'it was so'`)
	b.ok(err)
	findings, err := b.fleet.Doctor(ctx)
	b.ok(err)
	for _, want := range []string{"server pg-1: tenants can be moved there while they are served from pg-2", "server pg-2: tenants can be moved there while they are served from pg-1"} {
		if f := finding(findings, want); f == nil || !f.OK {
			t.Errorf("doctor doesn't say %q: %+v", want, findings)
		}
	}
	for _, at := range []string{"pg-1", "pg-2"} {
		conn := b.at(at, "postgres")
		if n := one[int](b, conn, `select (select count(*) from pg_subscription where subname like 'freehold_probe%')::int`); n != 0 {
			t.Errorf("%d subscriptions left on %s", n, at)
		}
		// Others' tests may have theirs at this moment: old ones are what is left.
		b.until("throw-away roles are gone", func() bool {
			return one[int](b, conn, `select count(*)::int from pg_roles where rolname like 'freehold_link_%'
				and ('x' || substr(rolname, 15, 8))::bit(32)::bigint < extract(epoch from now()) - 30`) == 0
		})
	}
}
