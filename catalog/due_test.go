package catalog_test

import (
	"slices"
	"testing"
	"time"

	"freehold/catalog"
)

// sent takes what is due and lists the slugs of it.
func (b *bench) sent(limit int, without ...string) (slugs []string, list []catalog.Due) {
	b.Helper()
	list, err := b.cat.TakeDue(b.Context(), limit, time.Minute, without)
	b.ok(err)
	for _, d := range list {
		t, err := b.cat.Tenant(b.Context(), d.Tenant)
		b.ok(err)
		slugs = append(slugs, t.Slug)
	}
	slices.Sort(slugs)
	return slugs, list
}

func (b *bench) due(want ...string) []catalog.Due {
	b.Helper()
	got, list := b.sent(100)
	if !slices.Equal(got, want) {
		b.Fatalf("due %v, want %v", got, want)
	}
	return list
}

func TestDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme, globex := b.tenant("acme"), b.tenant("globex")
	conn := b.admin()
	b.exec(conn, "delete from tenant_due") // who made them is in the audit, and so they are due

	b.due() // idle tenants stay asleep
	b.ok(b.cat.MarkDue(ctx, acme.ID, time.Hour))
	b.due()
	b.ok(b.cat.MarkDue(ctx, acme.ID, 0)) // sooner counts
	b.ok(b.cat.MarkDue(ctx, acme.ID, time.Hour))
	if got, _ := b.sent(10, "pg-1"); len(got) != 0 {
		t.Errorf("taken on a server that was left out: %v", got)
	}
	one := b.due("acme")[0]
	if one.Server != "pg-1" || !one.Daily || one.RolledTo != nil || time.Until(one.Until) < 50*time.Second {
		t.Errorf("%+v", one)
	}

	// What is asked for meanwhile waits, and isn't forgotten.
	b.ok(b.cat.MarkDue(ctx, acme.ID, 0))
	b.due()
	rolled := time.Now().Truncate(time.Microsecond)
	b.ok(b.cat.Visited(ctx, one, catalog.Visit{Daily: true, RolledTo: &rolled}))
	two := b.due("acme")[0]
	if two.Daily || two.RolledTo == nil || !two.RolledTo.Equal(rolled) {
		t.Errorf("%+v", two)
	}
	// Nothing is left to do: it sleeps.
	b.ok(b.cat.Visited(ctx, two, catalog.Visit{}))
	b.due()
	if n := b.number(conn, "select count(*) from tenant_due where due_at = 'infinity' and daily_at is not null and rolled_to is not null"); n != 1 {
		t.Error("it doesn't sleep, or has forgotten what was done")
	}
	next := -time.Second
	b.ok(b.cat.MarkDue(ctx, acme.ID, 0))
	b.ok(b.cat.Visited(ctx, b.due("acme")[0], catalog.Visit{Next: &next}))

	// Who has a tenant and dies is followed by another, and says nothing any more.
	dead := b.due("acme")[0]
	b.exec(conn, "update tenant_due set leased_until = now() - interval '1 second'")
	alive := b.due("acme")[0]
	b.ok(b.cat.Visited(ctx, dead, catalog.Visit{Next: &next, Error: "late"}))
	b.due()
	if n := b.number(conn, "select count(*) from tenant_due where error <> ''"); n != 0 {
		t.Error("a dead worker's visit counts")
	}
	b.ok(b.cat.Visited(ctx, alive, catalog.Visit{}))

	// Oldest first, as many as asked for; suspended tenants too, others aren't visited.
	b.ok(b.cat.MarkDue(ctx, globex.ID, -time.Minute))
	b.ok(b.cat.MarkDue(ctx, acme.ID, -time.Second))
	_, err := b.cat.SetState(ctx, globex.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	if got, _ := b.sent(1); !slices.Equal(got, []string{"globex"}) {
		t.Errorf("first %v", got)
	}
	b.exec(conn, "update tenants set state = 'moving' where slug = 'acme'")
	b.due()
	b.exec(conn, "update tenants set state = 'deleting' where slug = 'acme'")
	b.due()
	b.exec(conn, "delete from tenant_due")
	b.ok(b.cat.MarkDue(ctx, acme.ID, 0))
	b.ok(b.cat.MarkDue(ctx, catalog.NewTenantID(), 0))
	b.ok(b.cat.AppendAudit(ctx, "root@test", "tenant.delete", acme.ID, nil))
	if n := b.number(conn, "select count(*) from tenant_due"); n != 0 {
		t.Errorf("%d tenants that are being deleted, or aren't there, are due", n)
	}
	// A server that is down isn't gone to.
	b.ok(b.cat.MarkDue(ctx, globex.ID, 0))
	b.exec(conn, "update servers set state = 'down'")
	b.due()
}

func TestMarkDaily(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	for _, slug := range []string{"fresh", "never", "old", "deleting"} {
		b.tenant(slug)
	}
	conn := b.admin()
	b.exec(conn, "delete from tenant_due")
	b.exec(conn, "update tenants set state = 'deleting' where slug = 'deleting'")
	b.exec(conn, `insert into tenant_due (tenant, due_at, daily_at)
		select t.id, 'infinity', now() - case t.slug when 'old' then interval '25 hours' else interval '1 hour' end
		  from tenants t where t.slug in ('fresh', 'old')`)
	b.ok(b.cat.MarkDaily(ctx, time.Hour))
	b.due() // spread
	if n := b.number(conn, "select count(*) from tenant_due where due_at <= now() + interval '1 hour'"); n != 2 {
		t.Errorf("%d tenants will be due", n)
	}
	b.exec(conn, "update tenant_due set due_at = 'infinity'")
	b.ok(b.cat.MarkDaily(ctx, 0))
	for _, d := range b.due("never", "old") {
		if !d.Daily {
			t.Errorf("%+v", d)
		}
	}
}

// A worker that is stopped in the middle doesn't know that what failed fails no
// longer.
func TestVisited_cut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	b.ok(b.cat.MarkDue(ctx, acme.ID, 0))
	b.ok(b.cat.Visited(ctx, b.due("acme")[0], catalog.Visit{Next: new(time.Duration), Error: "spool: away"}))
	b.ok(b.cat.Visited(ctx, b.due("acme")[0], catalog.Visit{Next: new(time.Duration), Cut: true}))
	failing := `select count(*) from tenant_due where error = 'spool: away' and failing_since is not null`
	if n := b.number(b.admin(), failing); n != 1 {
		t.Error("it was forgotten that the visit fails")
	}
	b.ok(b.cat.Visited(ctx, b.due("acme")[0], catalog.Visit{}))
	if n := b.number(b.admin(), failing); n != 0 {
		t.Error("it doesn't fail any more")
	}
}

// status is told of visits that go wrong for some minutes, and not of one bad one.
func TestVisitTrouble(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	conn := b.admin()
	unsealed, sealed := time.Now().Add(-time.Hour), time.Time{}
	one, none := 1, 0
	visits := map[string]catalog.Visit{
		"failing":  {Error: "roll-up: refused\x00"},
		"spooled":  {Error: "spool: 1 can't be opened", Spooled: &one},
		"unsealed": {Unsealed: &unsealed},
		"well":     {Unsealed: &sealed, Spooled: &none},
	}
	for slug := range visits {
		b.ok(b.cat.MarkDue(ctx, b.tenant(slug).ID, 0))
	}
	look := func() (kinds []string) {
		b.Helper()
		o, err := b.cat.Overview(ctx, 1)
		b.ok(err)
		for _, v := range o.Visits {
			kinds = append(kinds, v.Kind+" of "+v.Tenants[0])
		}
		return kinds
	}
	visit := func() {
		b.Helper()
		slugs, list := b.sent(10)
		for _, d := range list {
			tenant, err := b.cat.Tenant(ctx, d.Tenant)
			b.ok(err)
			b.ok(b.cat.Visited(ctx, d, visits[tenant.Slug]))
		}
		if len(slugs) != len(visits) {
			t.Fatalf("visited %v", slugs)
		}
		b.exec(conn, "update tenant_due set due_at = now()")
	}
	visit()
	if got := look(); !slices.Equal(got, []string{"unsealed of unsealed"}) {
		t.Errorf("after one visit: %v", got)
	}
	b.exec(conn, "update tenant_due set failing_since = failing_since - interval '10 minutes'")
	visit() // since then, and not since now
	if got := look(); !slices.Equal(got, []string{"failing of failing", "spooled of spooled", "unsealed of unsealed"}) {
		t.Errorf("after ten minutes: %v", got)
	}
	// Who couldn't look says nothing of what is left, and who could and found nothing does.
	visits["unsealed"], visits["spooled"] = catalog.Visit{Error: "away"}, catalog.Visit{Error: "away"}
	visit()
	if n := b.number(conn, "select count(*) from tenant_due where unsealed_at is not null or spooled > 0"); n != 2 {
		t.Error("forgotten by who couldn't look")
	}
	for slug := range visits {
		visits[slug] = visits["well"]
	}
	visit()
	if got := look(); len(got) != 0 {
		t.Errorf("well again: %v", got)
	}
}

func TestLiveNodes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.admin()
	b.exec(conn, `insert into nodes (id, name, version, seen, heartbeat_at) values
		('00000000-0000-7000-8000-000000000001', 'a', 'v', 0, now() + interval '1 hour'),
		('00000000-0000-7000-8000-000000000002', 'b', 'v', 0, now() - interval '2 minutes')`)
	// The server has just started for somebody who waits a day: nobody is dead yet.
	if list, err := b.cat.LiveNodes(t.Context(), 24*time.Hour); err != nil || len(list) != 2 {
		t.Errorf("live: %v, %v", list, err)
	}
	list, err := b.cat.LiveNodes(t.Context(), 50*time.Millisecond)
	b.ok(err)
	if len(list) != 1 || list[0].String() != "00000000-0000-7000-8000-000000000001" {
		t.Errorf("live: %v", list)
	}
}
