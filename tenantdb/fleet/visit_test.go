package fleet_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// ward is a tenant that is visited, seen from inside.
type ward struct {
	*bench
	catalog.Tenant
	fleet *fleet.Fleet
	store *blob.Store
	in    *pgx.Conn // the superuser's
	node  *pgx.Conn // as the tenant's role
}

func setupWard(t *testing.T) *ward {
	t.Helper()
	b := setup(t)
	return b.ward(b.store())
}

func (b *bench) ward(store *blob.Store) *ward {
	b.Helper()
	w := &ward{bench: b, store: store, fleet: b.newFleet(fleet.Config{Blob: store})}
	var err error
	w.Tenant, _, err = w.fleet.Create(b.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	w.in = b.super(w.Database)
	w.node, err = b.as(w.Tenant, w.Database)
	b.ok(err)
	return w
}

// visit has what is due done, the tenant's visit among it.
func (w *ward) visit() {
	w.Helper()
	w.ok(w.cat.MarkDue(w.Context(), w.ID, 0))
	w.ok(w.fleet.VisitDue(w.Context()))
}

// admitted lets a request in, and returns how it will have ended.
func (w *ward) admitted() tenantdb.Settlement {
	w.Helper()
	s := tenantdb.Settlement{
		ID: uuid.Must(uuid.NewV7()), At: time.Now().UTC(), RequestID: "req_1", APIKey: "key_1", Kind: "chat", Model: "m", State: "succeeded",
		Output: json.RawMessage(`{"text":"a secret answer"}`), Salt: []byte("salt"), PayloadHash: bytes.Repeat([]byte("h"), 32),
		PromptTokens: 10, CompletionTokens: 5, InputPrice: 2, OutputPrice: 3, Cost: 35, Detail: json.RawMessage(`{"kind":"chat"}`),
	}
	grants, err := tenantdb.On(w.node, w.Epoch).AdmitAll(w.Context(), uuid.Must(uuid.NewV7()), "key_1", plenty, []tenantdb.Admission{{
		ID: s.ID, CreatedAt: s.At, RequestID: s.RequestID, Kind: s.Kind, Model: s.Model, EndUser: "ann", Input: json.RawMessage(`"hi"`), Most: 100, Audit: true,
	}})
	w.ok(err)
	if grants[0].Outcome != tenantdb.Granted {
		w.Fatalf("%+v", grants[0])
	}
	return s
}

// settle ends a request as a node does.
func (w *ward) settle(s tenantdb.Settlement) bool {
	w.Helper()
	settled, err := tenantdb.On(w.node, w.Epoch).SettleAll(w.Context(), []tenantdb.Settlement{s})
	w.ok(err)
	return settled[0]
}

// abandoned is a request whose process has been dead for long.
func (w *ward) abandoned() uuid.UUID {
	w.Helper()
	id := w.admitted().ID
	w.exec("update freehold.reservations set created_at = now() - interval '1 hour' where id = $1", id)
	return id
}

func (w *ward) exec(sql string, args ...any) {
	w.Helper()
	_, err := w.in.Exec(w.Context(), sql, args...)
	w.ok(err)
}

func (w *ward) count(sql string, args ...any) int {
	w.Helper()
	return one[int](w.bench, w.in, "select count(*)::int from "+sql, args...)
}

// ended is how the ledger says that a request ended, "" while it doesn't.
func (w *ward) ended(id uuid.UUID) string {
	w.Helper()
	return one[string](w.bench, w.in, "select coalesce((select l.state from freehold.usage_ledger l where l.id = $1), '')", id)
}

func (w *ward) spooled() (keys []string) {
	w.Helper()
	w.ok(w.store.Tenant(w.ID).List(w.Context(), "spool/", func(o blob.Object) error {
		keys = append(keys, o.Key)
		return nil
	}))
	return keys
}

// note is what the catalog knows of the last visit.
type note struct {
	Error                      string
	Spooled                    int
	Sleeps, Daily, Sealed, Led bool
}

func (w *ward) note() note {
	w.Helper()
	rows, _ := w.catalogDB().Query(w.Context(), `
		select error, spooled, due_at = 'infinity' as sleeps, coalesce(daily_at > now() - interval '1 minute', false) as daily,
		       unsealed_at is null as sealed, leased_until is not null as led
		  from tenant_due where tenant = $1`, w.ID)
	n, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[note])
	w.ok(err)
	return n
}

// One visit does all: what was spooled and what a dead node left is settled, what
// operators did is repeated, all of it is sealed and billed, and weeks are made.
func TestVisit(t *testing.T) {
	t.Parallel()
	w := setupWard(t)
	ctx := t.Context()
	settled, spooled, working, dead := w.admitted(), w.admitted(), w.admitted(), w.abandoned()
	w.settle(settled)
	w.ok(w.fleet.Spool(ctx, w.ID, spooled))
	w.ok(w.fleet.Spool(ctx, w.ID, spooled)) // twice is once
	w.ok(w.cat.AppendAudit(ctx, "root@test", "config.set", w.ID, map[string]any{"names": []string{"pii_mode"}}))
	w.exec(`insert into freehold.idempotency_keys (api_key, key, request_hash, prediction, done, expires_at)
		select 'k', 'key ' || i, '', gen_random_uuid(), true, now() + (i - 1500.5) * interval '1 minute' from generate_series(1, 1510) i`)
	last := one[string](w.bench, w.in, "select max(inhrelid::regclass::text) from pg_inherits where inhparent = 'freehold.predictions'::regclass and inhrelid::regclass::text like '%predictions_w%'")
	w.exec("drop table " + last)
	if body, _, err := w.store.Tenant(w.ID).Get(ctx, "spool/"+spooled.ID.String()); err != nil {
		t.Error(err)
	} else if text, _ := io.ReadAll(body); bytes.Contains(text, []byte("secret")) || bytes.Contains(text, []byte("key_1")) || body.Close() != nil {
		t.Error("what is spooled can be read")
	}

	w.visit()
	for id, want := range map[uuid.UUID]string{settled.ID: "succeeded", spooled.ID: "succeeded", dead: "interrupted", working.ID: ""} {
		if got := w.ended(id); got != want {
			t.Errorf("%s ended %q, want %q", id, got, want)
		}
	}
	if keys := w.spooled(); len(keys) > 0 {
		t.Errorf("left in the spool: %v", keys)
	}
	if n := w.count("freehold.audit_log where seal is not null and action = 'prediction'"); n != 3 {
		t.Errorf("%d predictions are sealed", n)
	}
	if n := w.count("freehold.audit_log where seal is not null and action = 'config.set' and actor = 'operator:root@test'"); n != 1 {
		t.Errorf("%d acts of operators are sealed", n)
	}
	head, _, err := w.cat.AuditHead(ctx, w.ID)
	w.ok(err)
	if head.N != 1 || !bytes.Equal(head.Head, one[[]byte](w.bench, w.in, "select head from freehold.audit_seals order by n desc limit 1")) {
		t.Errorf("the catalog's head is %d", head.N)
	}
	if n := w.count("pg_inherits where inhparent = 'freehold.predictions'::regclass"); n != 6 {
		t.Errorf("%d partitions", n)
	}
	if n := w.count("freehold.idempotency_keys"); n != 10 {
		t.Errorf("%d Idempotency-Keys are left", n)
	}
	if n := w.note(); n.Error != "" || n.Spooled != 0 || n.Sleeps || !n.Daily || !n.Sealed || n.Led {
		t.Errorf("%+v", n) // one is at work: it will be visited again
	}
	bill := func(requests, prompt, cost int64) {
		t.Helper()
		u, err := w.cat.UsageByMonth(ctx, w.ID)
		w.ok(err)
		if len(u) != 1 || u[0].Requests != requests || u[0].PromptTokens != prompt || u[0].Cost != cost {
			t.Errorf("bill %+v", u)
		}
	}
	bill(3, 20, 70)

	// All once more: nothing is billed or told twice.
	w.settle(working)
	w.ok(w.fleet.Spool(ctx, w.ID, working)) // its node didn't hear that it was settled
	for range 2 {
		w.visit()
	}
	bill(4, 30, 105)
	if n := w.count("freehold.usage_ledger"); n != 4 || len(w.spooled()) != 0 {
		t.Errorf("%d rows in the ledger", n)
	}
	if n := one[int](w.bench, w.in, "select count(*)::int from freehold.audit_log"); n != 5 {
		t.Errorf("%d rows in the audit", n)
	}
	// All is quiet, for long enough: it sleeps.
	_, err = w.catalogDB().Exec(ctx, "update tenant_due set rolled_to = now() + interval '10 minutes'")
	w.ok(err)
	w.visit()
	if n := w.note(); n.Error != "" || !n.Sleeps {
		t.Errorf("%+v", n)
	}
}

// What can't be replayed stays, is named, and keeps nothing else from being done.
func TestVisitLeavesWhatItCannotSettle(t *testing.T) {
	t.Parallel()
	w := setupWard(t)
	ctx := t.Context()
	good, invalid, other := w.admitted(), w.admitted(), w.admitted()
	invalid.State = "nonsense"
	for _, s := range []tenantdb.Settlement{good, invalid, other} {
		w.ok(w.fleet.Spool(ctx, w.ID, s))
	}
	objects := w.store.Tenant(w.ID)
	// What is sealed for one prediction is nobody else's.
	body, _, err := objects.Get(ctx, "spool/"+other.ID.String())
	w.ok(err)
	sealed, err := io.ReadAll(body)
	w.ok(errors.Join(err, body.Close()))
	bad := []string{"spool/" + invalid.ID.String(), "spool/" + uuid.NewString(), "spool/" + uuid.NewString(), "spool/notes.txt"}
	w.ok(objects.Put(ctx, bad[1], bytes.NewReader(sealed)))
	w.ok(objects.Put(ctx, bad[2], strings.NewReader("garbage")))
	w.ok(objects.Put(ctx, bad[3], strings.NewReader("somebody's")))
	dead := w.abandoned()

	w.visit()
	if w.ended(good.ID) != "succeeded" || w.ended(other.ID) != "succeeded" {
		t.Error("others are not settled")
	}
	if left := w.spooled(); len(left) != len(bad) {
		t.Errorf("left %v, want %v", left, bad)
	}
	// It may be what one of them tells of.
	if got := w.ended(dead); got != "" {
		t.Errorf("what a dead node left ended as %q", got)
	}
	n := w.note()
	if n.Spooled != 4 || !strings.HasPrefix(n.Error, "spool: 4 left, the first is spool/") || strings.Contains(n.Error, ";") || n.Sleeps {
		t.Errorf("%+v", n)
	}
	u, err := w.cat.UsageByMonth(ctx, w.ID)
	w.ok(err)
	if len(u) != 1 || u[0].Requests != 2 || !n.Daily || !n.Sealed {
		t.Errorf("the rest of the visit was not done: bill %+v, %+v", u, n)
	}
	for _, key := range bad {
		w.ok(objects.Delete(ctx, key))
	}
	w.visit()
	if n := w.note(); n.Error != "" || n.Spooled != 0 || w.ended(dead) != "interrupted" {
		t.Errorf("mended: %+v, %q", n, w.ended(dead))
	}
}

// Workers never visit a tenant at once, and one server that is away keeps the
// others' tenants from nothing.
func TestVisitDueByMany(t *testing.T) {
	t.Parallel()
	w := setupWard(t)
	ctx := t.Context()
	globex := w.create("globex")
	db := w.catalogDB()
	_, err := w.cat.AddServer(ctx, catalog.ServerSpec{
		Name: "far", Host: "127.0.0.1", Port: 1, SSLMode: "disable", AdminUser: "admin", Password: "far away", Version: 150000, MaxConnections: 100,
	})
	w.ok(err)
	_, err = db.Exec(ctx, `with far as (
			insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch, schema_version, named)
			select gen_random_uuid(), 'far-' || i, 'Far', 'active', s.id, 'far_' || i, 'far_' || i, '', 0, 0, $1, true
			  from generate_series(1, 20) i, servers s where s.name = 'far' returning id)
		insert into tenant_due (tenant, due_at) select id, now() - interval '1 hour' from far`, latest)
	w.ok(err)
	w.ok(w.cat.MarkDue(ctx, w.ID, 0))
	w.ok(w.cat.MarkDue(ctx, globex.ID, 0))
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { w.ok(w.newFleet(fleet.Config{Blob: w.store}).VisitDue(ctx)) })
	}
	all.Wait()
	if n := w.note(); n.Error != "" || !n.Daily || n.Led {
		t.Errorf("%+v", n)
	}
	if n := one[int](w.bench, db, "select count(*)::int from tenant_due d join tenants t on t.id = d.tenant where t.slug in ('acme', 'globex') and d.visited_at is not null and d.error = ''"); n != 2 {
		t.Errorf("%d tenants were visited", n)
	}
	// Each worker asked that server a few times at most, and left the others for later.
	failed := one[int](w.bench, db, "select count(*)::int from tenant_due d join tenants t on t.id = d.tenant where t.slug like 'far-%' and d.error like 'come in: %'")
	if failed < 1 || failed > 6 {
		t.Errorf("%d tenants of a server that is away were tried", failed)
	}
}

// Resume replays first: what a node knew of a request is the truth, and what nobody
// knows is interrupted.
func TestResumeSettlesFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, away := b.unsteady()
	w := b.ward(store)
	ctx := t.Context()
	known, dead := w.admitted(), w.abandoned()
	w.exec("update freehold.reservations set created_at = now() - interval '1 hour'")
	w.ok(w.fleet.Suspend(ctx, w.ID))
	w.ok(w.fleet.Spool(ctx, w.ID, known))

	// Nobody knows what was spooled: nothing changes.
	away.Store(true)
	if err := w.fleet.Resume(ctx, w.ID); !errors.Is(err, fleet.ErrStore) {
		t.Errorf("without the store: %v", err)
	}
	away.Store(false)
	w.state(w.ID, catalog.Suspended)
	if w.ended(known.ID) != "" || w.ended(dead) != "" {
		t.Error("settled although nobody knows how")
	}
	w.ok(w.fleet.Resume(ctx, w.ID))
	w.state(w.ID, catalog.Active)
	if w.ended(known.ID) != "succeeded" || w.ended(dead) != "interrupted" || len(w.spooled()) != 0 {
		t.Errorf("spooled: %q, left: %q", w.ended(known.ID), w.ended(dead))
	}
}

// What is spooled before a deletion is on the last bill, and what is spooled while it
// runs is gone with everything else.
func TestDeleteLeavesNoSpool(t *testing.T) {
	t.Parallel()
	w := setupWard(t)
	ctx := t.Context()
	early, late := w.admitted(), w.admitted()
	w.ok(w.in.Close(ctx)) // whom nobody can put out
	op, err := w.fleet.Delete(ctx, w.ID, now)
	w.ok(err)
	w.ok(w.fleet.Spool(ctx, w.ID, early))
	w.fleet.Crash(func(point string) {
		if point == "delete/secrets:recorded" {
			w.ok(w.fleet.Spool(ctx, w.ID, late))
		}
	})
	w.ok(w.fleet.Do(ctx, op.ID))
	w.state(w.ID, catalog.Deleted)
	_, r, err := w.fleet.Receipt(ctx, w.ID.String())
	w.ok(err)
	if len(r.Bill) != 1 || r.Bill[0].Requests != 1 || r.Bill[0].Cost != 35 {
		t.Errorf("bill %+v", r.Bill)
	}
	for _, d := range r.Destroyed {
		if d.What == "objects" && (d.Count != 2 || d.Bytes == 0 || d.VerifiedAt.IsZero()) { // the marker, and what came late
			t.Errorf("%+v", d)
		}
	}
	if err := w.fleet.Spool(ctx, w.ID, late); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("after it: %v", err)
	}
	if left, err := w.store.Tenant(w.ID).Total(ctx, ""); err != nil || left.Objects != 0 {
		t.Errorf("%d objects are left, %v", left.Objects, err)
	}
	if n := one[int](w.bench, w.catalogDB(), "select count(*)::int from tenant_due where tenant = $1 and due_at < 'infinity'", w.ID); n != 0 {
		t.Error("somebody is sent to it")
	}
}
