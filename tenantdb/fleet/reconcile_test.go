package fleet_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// yard is a bench with a store, and what a test puts where it doesn't belong.
type yard struct {
	*bench
	fleet *fleet.Fleet
	blob  *blob.Store
	disk  *pgx.Conn // the server's own truth
	rows  *pgx.Conn // the catalog's
	mark  string
}

func setupYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{bench: setup(t)}
	y.blob = y.store()
	y.fleet = y.newFleet(fleet.Config{Blob: y.blob})
	y.disk, y.rows = y.super("postgres"), y.catalogDB()
	id, err := y.cat.CatalogID(t.Context())
	y.ok(err)
	y.mark = "freehold " + id
	return y
}

func (y *yard) tenant(slug string) catalog.Tenant {
	y.Helper()
	t, _, err := y.fleet.Create(y.Context(), catalog.TenantSpec{Slug: slug})
	y.ok(err)
	return t
}

// tenants makes several, some at once.
func (y *yard) tenants(slugs ...string) []catalog.Tenant {
	y.Helper()
	list := make([]catalog.Tenant, len(slugs))
	var group errgroup.Group
	group.SetLimit(4)
	for i, slug := range slugs {
		group.Go(func() (err error) {
			list[i], _, err = y.fleet.Create(y.Context(), catalog.TenantSpec{Slug: slug})
			return err
		})
	}
	y.ok(group.Wait())
	return list
}

func (y *yard) do(conn *pgx.Conn, sql string, args ...any) {
	y.Helper()
	if _, err := conn.Exec(y.Context(), sql, args...); err != nil {
		y.Fatalf("%s: %v", sql, err)
	}
}

// stray makes a database or role that no row is for, and removes it at the end.
func (y *yard) stray(thing, mark string) catalog.TenantID {
	y.Helper()
	id := catalog.NewTenantID()
	y.strayOf(thing, id, mark)
	return id
}

func (y *yard) strayOf(thing string, id catalog.TenantID, mark string) {
	y.Helper()
	sql := "create " + thing + " " + id.DatabaseName()
	if thing == "database" {
		sql += " allow_connections false" // else other tests' servers would be open to strangers
	}
	y.do(y.disk, sql)
	y.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, pgtest.SuperURL(y))
		if err != nil {
			y.Error(err)
			return
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "drop "+thing+" if exists "+id.DatabaseName()); err != nil {
			y.Error(err)
		}
	})
	if mark != "" {
		y.do(y.disk, "comment on "+thing+" "+id.DatabaseName()+" is '"+mark+"'")
	}
}

func (y *yard) reconcile() fleet.Report {
	y.Helper()
	r, err := y.fleet.Reconcile(y.Context())
	y.ok(err)
	return r
}

// about are the findings of a tenant, by kind.
func about(r fleet.Report, id catalog.TenantID) string {
	var kinds []string
	for _, f := range r.Findings {
		if f.Tenant == id || strings.Contains(f.Object, id.DatabaseName()) || strings.Contains(f.Object, id.String()) {
			kinds = append(kinds, f.Kind)
		}
	}
	slices.Sort(kinds)
	return strings.Join(kinds, " ")
}

func (y *yard) finds(r fleet.Report, who string, id catalog.TenantID, want string) {
	y.Helper()
	if got := about(r, id); got != want {
		y.Errorf("%s: found %q, want %q", who, got, want)
	}
}

// left tells what is there of a tenant's.
func (y *yard) left(id catalog.TenantID) string {
	y.Helper()
	var things []string
	if one[bool](y.bench, y.disk, "select exists (select from pg_database where datname = $1)", id.DatabaseName()) {
		things = append(things, "database")
	}
	if one[bool](y.bench, y.disk, "select exists (select from pg_roles where rolname = $1)", id.DatabaseName()) {
		things = append(things, "role")
	}
	if total, err := y.blob.Tenant(id).Total(y.Context(), ""); err != nil || total.Objects > 0 {
		y.ok(err)
		things = append(things, "prefix")
	}
	return strings.Join(things, " ")
}

const all = "database role prefix"

// Each thing that doesn't agree with the catalog is found, is told with what to do,
// and is left as it is.
func TestReconcileFinds(t *testing.T) {
	t.Parallel()
	y := setupYard(t)
	made := y.tenants("whole", "no-database", "no-role", "no-prefix", "open", "stolen", "unmarked", "others", "busy", "half", "moving")
	whole, noDatabase, noRole, noPrefix, open, stolen := made[0], made[1], made[2], made[3], made[4], made[5]
	unmarked, others, busy, half, moving := made[6], made[7], made[8], made[9], made[10]
	y.do(y.disk, "drop database "+noDatabase.Database+" with (force)")
	y.do(y.disk, "revoke all on database "+noRole.Database+" from "+noRole.Role)
	y.do(y.disk, "drop role "+noRole.Role)
	y.ok(y.blob.Drop(t.Context(), noPrefix.ID))
	y.do(y.disk, "grant temporary on database "+open.Database+" to public")
	y.do(y.disk, "alter database "+stolen.Database+" owner to current_user")

	lost := y.stray("database", y.mark)
	y.strayOf("role", lost, y.mark)
	y.ok(y.blob.CreatePrefix(t.Context(), lost))
	lostRole := y.stray("role", y.mark)
	nobodys, nobodysRole := y.stray("database", ""), y.stray("role", "some operator")
	foreign, foreignRole := y.stray("database", "freehold "+catalog.NewTenantID().String()), y.stray("role", "freehold x")
	prefix := catalog.NewTenantID()
	y.ok(y.blob.CreatePrefix(t.Context(), prefix))

	// Deleted here, and what is left bears no mark, or another catalog's.
	y.do(y.rows, "update tenants set state = 'deleted', updated_at = now() - interval '1 day' where slug in ('unmarked', 'others')")
	for _, thing := range []string{"database", "role"} {
		y.do(y.disk, "comment on "+thing+" "+unmarked.Database+" is null")
		y.do(y.disk, "comment on "+thing+" "+others.Database+" is 'freehold x'")
	}
	// Somebody is at work on these.
	y.do(y.rows, "update tenants set state = 'deleted', updated_at = now() - interval '1 day' where slug = 'busy'")
	y.do(y.rows, "insert into operations (id, kind, tenant, actor, run_at) values ($1, 'delete', $2, 'x', now() + interval '1 day')", catalog.NewTenantID(), busy.ID)
	y.do(y.rows, "update tenants set state = 'provisioning' where slug = 'half'")
	y.do(y.rows, "update tenants set state = 'moving' where slug = 'moving'")
	y.ok(y.blob.Drop(t.Context(), moving.ID))

	check := func(r fleet.Report) {
		t.Helper()
		for _, c := range []struct {
			who  string
			id   catalog.TenantID
			want string
		}{
			{"whole", whole.ID, ""},
			{"no database", noDatabase.ID, "database_missing"},
			{"no role", noRole.ID, "role_missing"},
			{"no prefix", noPrefix.ID, "prefix_missing"},
			{"open", open.ID, "database_open"},
			{"stolen", stolen.ID, "database_owner"},
			{"lost", lost, "database_unknown"}, // says it for the role and the prefix too
			{"lost role", lostRole, "role_unknown"},
			{"nobody's", nobodys, "database_unknown"},
			{"nobody's role", nobodysRole, "role_unknown"},
			{"another catalog's", foreign, ""},
			{"another catalog's role", foreignRole, ""},
			{"prefix", prefix, "prefix_unknown"},
			{"unmarked", unmarked.ID, "database_left role_left"},
			{"marked by another", others.ID, ""},
			{"busy", busy.ID, ""},
			{"half made", half.ID, ""},
			{"moving", moving.ID, ""},
		} {
			got := about(r, c.id)
			if strings.HasPrefix(c.who, "unmarked") || strings.HasPrefix(c.who, "marked") {
				got = strings.TrimSuffix(strings.TrimPrefix(got, "prefix_left"), " prefix_left")
			}
			if got != c.want {
				t.Errorf("%s: found %q, want %q", c.who, got, c.want)
			}
		}
		for _, f := range r.Findings {
			if f.What == "" || strings.Contains(f.Fix, "%") {
				t.Errorf("%+v", f)
			}
			if f.Kind == "database_unknown" && strings.Contains(f.Object, lost.DatabaseName()) &&
				f.Fix != "freehold tenant adopt "+lost.String()+" --server pg-1" {
				t.Errorf("lost: %s", f.Fix)
			}
		}
	}
	first := y.reconcile()
	check(first)
	// What was seen for long enough is touched only where it is provably ours.
	y.do(y.rows, "update findings set since = now() - interval '1 hour'")
	again := y.reconcile()
	check(again)
	for _, m := range append(first.Mended, again.Mended...) {
		if m.Kind != "prefix_left" {
			t.Errorf("mended %+v", m)
		}
	}
	for who, id := range map[string]catalog.TenantID{"lost": lost, "unmarked": unmarked.ID, "others": others.ID, "nobody's": nobodys, "busy": busy.ID, "half": half.ID} {
		if !strings.Contains(y.left(id), "database") {
			t.Errorf("%s: its database is gone", who)
		}
	}
	if y.left(prefix) != "prefix" || y.left(lostRole) != "role" || y.left(half.ID) != all {
		t.Error("what isn't provably ours was removed")
	}
	kept, err := y.cat.Findings(t.Context())
	y.ok(err)
	if len(kept) != len(again.Findings) {
		t.Errorf("%d findings written, %d told", len(kept), len(again.Findings))
	}
}

// What a deletion of this catalog's left is removed, once nobody can be at work on
// it any more, and written down.
func TestReconcileMends(t *testing.T) {
	t.Parallel()
	y := setupYard(t)
	made := y.tenants("old", "young", "locked", "foreign", "whole")
	old, young, locked, foreign, whole := made[0], made[1], made[2], made[3], made[4]
	_, err := y.as(old, old.Database) // still connected
	y.ok(err)
	y.do(y.rows, "update tenants set state = 'deleted', updated_at = now() where slug <> 'whole'")
	y.do(y.rows, "update tenants set updated_at = now() - interval '11 minutes' where slug in ('old', 'locked', 'foreign')")
	ready := y.tenant("ready")
	y.do(y.rows, `insert into ready_databases (id, server_id, secret, secret_key_id, state, created_at)
		select id, server_id, '', 0, 'dropping', now() - interval '1 day' from tenants where slug = 'ready'`)
	writer := y.super(y.rows.Config().Database)
	for _, table := range []string{"api_keys", "tenant_config", "mail_outbox", "operations"} {
		y.do(writer, "delete from "+table+" where tenant = $1", ready.ID)
	}
	y.do(y.rows, "delete from tenants where id = $1", ready.ID)
	// As if the database had been given to another tenant.
	y.do(y.super(foreign.Database), "update freehold.tenant_identity set tenant = $1", catalog.NewTenantID())
	holder, err := y.fleet.Admin(t.Context(), "pg-1")
	y.ok(err)
	y.closeLater(holder)
	y.do(holder, "select pg_advisory_lock(hashtextextended($1, 0))", "freehold tenant "+locked.ID.String())

	r := y.reconcile()
	y.finds(r, "old", old.ID, "")
	y.finds(r, "young", young.ID, "database_left prefix_left role_left")
	y.finds(r, "locked", locked.ID, "database_left prefix_left role_left")
	y.finds(r, "ready", ready.ID, "database_left prefix_left role_left")
	if y.left(old.ID) != "" || y.left(young.ID) != all || y.left(locked.ID) != all || y.left(ready.ID) != all || y.left(whole.ID) != all {
		t.Errorf("old %q, young %q, locked %q, ready %q, whole %q",
			y.left(old.ID), y.left(young.ID), y.left(locked.ID), y.left(ready.ID), y.left(whole.ID))
	}
	if !strings.Contains(y.left(foreign.ID), "database") {
		t.Error("a database that says it is another tenant's is gone")
	}
	if n := one[int](y.bench, y.rows, "select count(*)::int from operator_audit where actor = 'reconciler' and tenant = $1", old.ID); n != 3 {
		t.Errorf("%d audit rows, want database, role and prefix", n)
	}
	// Seen before as well: what is young no more is removed, also of a ready database.
	y.ok(holder.Close(t.Context()))
	y.do(y.rows, "update findings set since = now() - interval '11 minutes'")
	r = y.reconcile()
	for who, id := range map[string]catalog.TenantID{"young": young.ID, "locked": locked.ID, "ready": ready.ID} {
		y.finds(r, who, id, "")
		if left := y.left(id); left != "" {
			t.Errorf("%s: left %s", who, left)
		}
	}
	if r = y.reconcile(); len(r.Mended) > 0 {
		t.Errorf("mended again: %+v", r.Mended)
	}
}

// What can't be looked at stays as it was found, and is named.
func TestReconcileUnseen(t *testing.T) {
	t.Parallel()
	y := setupYard(t)
	acme := y.tenant("acme")
	y.do(y.disk, "drop database "+acme.Database+" with (force)")
	y.ok(y.blob.Drop(t.Context(), acme.ID))
	y.finds(y.reconcile(), "acme", acme.ID, "database_missing prefix_missing")

	// Its server is away, and no store is configured.
	y.do(y.rows, "update servers set port = 1")
	f := y.newFleet(fleet.Config{})
	r, err := f.Reconcile(t.Context())
	y.ok(err)
	y.finds(r, "acme", acme.ID, "database_missing prefix_missing")
	if strings.Join(r.Unseen, " ") != "pg-1" {
		t.Errorf("unseen: %v", r.Unseen)
	}
	y.do(y.rows, "update servers set state = 'down'")
	began := time.Now()
	if r, err = f.Reconcile(t.Context()); err != nil || len(r.Unseen) != 1 || time.Since(began) > 2*time.Second {
		t.Errorf("down: %v %v in %s", r.Unseen, err, time.Since(began))
	}
	y.finds(r, "acme", acme.ID, "database_missing prefix_missing")
}

// A tenant's database on a server where it doesn't live is told and left.
func TestReconcileElsewhere(t *testing.T) {
	t.Parallel()
	y := setupYard(t)
	acme := y.tenant("acme")
	y.do(y.rows, `insert into servers (id, name, host, port, ssl_mode, admin_user, admin_secret, secret_key_id, version, max_connections, budget, reserve)
		select gen_random_uuid(), 'pg-0', host, port, ssl_mode, admin_user, admin_secret, secret_key_id, version, max_connections, budget, reserve from servers`)
	y.do(y.rows, "update servers set state = 'down' where name = 'pg-0'") // its secret is another row's
	y.do(y.rows, "update tenants set server_id = (select id from servers where name = 'pg-0')")
	r := y.reconcile()
	y.finds(r, "acme", acme.ID, "database_elsewhere role_elsewhere")
	y.do(y.rows, "update findings set since = now() - interval '1 hour'")
	y.reconcile()
	if left := y.left(acme.ID); left != all {
		t.Errorf("left: %s", left)
	}
	for _, f := range r.Findings {
		if f.Tenant == acme.ID && (!strings.Contains(f.What, "lives on server pg-0") || f.Fix == "") {
			t.Errorf("%+v", f)
		}
	}
}
