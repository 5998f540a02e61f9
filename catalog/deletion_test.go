package catalog_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/migrations/pgtest"
)

// Of who takes a deletion back and who begins it, one wins, and both are told.
func TestUndeleteAgainstTheWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rounds := 20
	if pgtest.Long() {
		rounds = 500
	}
	wins := map[bool]int{}
	for i := range rounds {
		acme := b.tenant(fmt.Sprintf("race-%d", i))
		op, _, err := b.cat.BeginDeletion(t.Context(), acme.ID, 0, "root@test", []string{"one"})
		b.ok(err)
		var undelete, take error
		var both sync.WaitGroup
		both.Go(func() { _, undelete = b.cat.Undelete(t.Context(), acme.ID) })
		both.Go(func() {
			_, take = b.cat.TakeOperation(t.Context(), op.ID, catalog.Taker{Worker: "w", Lease: time.Minute})
		})
		both.Wait()
		now, err := b.cat.Tenant(t.Context(), acme.ID)
		b.ok(err)
		after, err := b.cat.Operation(t.Context(), op.ID)
		b.ok(err)
		back := undelete == nil
		wins[back]++
		want := struct {
			tenant    catalog.State
			operation string
			loser     error
		}{catalog.Deleting, catalog.OperationRunning, undelete}
		if back {
			want.tenant, want.operation, want.loser = catalog.Suspended, catalog.OperationCancelled, take
		}
		if now.State != want.tenant || after.State != want.operation || !errors.Is(want.loser, catalog.ErrConflict) {
			t.Fatalf("round %d: tenant %s, operation %s; undelete: %v; take: %v", i, now.State, after.State, undelete, take)
		}
	}
	t.Logf("taken back %d times, begun %d times", wins[true], wins[false])
}

// What a deletion's operation says is what becomes of the next call.
func TestBeginDeletionAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	by := catalog.Taker{Worker: "w", Lease: time.Minute}
	begin := func(grace time.Duration) catalog.Operation {
		t.Helper()
		op, _, err := b.cat.BeginDeletion(ctx, acme.ID, grace, "root@test", []string{"one", "two"})
		b.ok(err)
		return op
	}
	first := begin(time.Hour)
	_, err := b.cat.CancelOperation(ctx, first.ID)
	b.ok(err)
	// Cancelled before it began, and the tenant still deleting: anew, with grace.
	second := begin(time.Hour)
	if second.ID == first.ID || time.Until(second.RunAt) < 50*time.Minute {
		t.Errorf("after a cancellation: %+v", second)
	}
	taken, err := b.cat.TakeOperation(ctx, second.ID, by)
	b.ok(err)
	b.ok(b.cat.NoteOperation(ctx, taken, "objects", map[string]int{"count": 7}))
	b.ok(b.cat.NoteOperation(ctx, taken, "role", "r"))
	if busy := begin(0); busy.ID != second.ID || busy.State != catalog.OperationRunning {
		t.Errorf("while it runs: %+v", busy)
	}
	stale := taken
	stale.Token--
	b.is(b.cat.NoteOperation(ctx, stale, "objects", 0), catalog.ErrLost)
	b.ok(b.cat.EndOperation(ctx, taken, catalog.OperationCancelled, "cancelled", 0))
	_, err = b.cat.Undelete(ctx, acme.ID)
	b.is(err, catalog.ErrConflict)
	// Cancelled after it had begun: anew, at once, with what was found before.
	third := begin(time.Hour)
	if time.Until(third.RunAt) > time.Second {
		t.Errorf("waits again: %+v", third)
	}
	d, err := b.cat.Deletion(ctx, third.ID)
	b.ok(err)
	if string(d.Notes["objects"]) != `{"count": 7}` && string(d.Notes["objects"]) != `{"count":7}` || len(d.Notes) != 2 || d.Half {
		t.Errorf("knows %+v", d)
	}
	_, err = b.cat.Undelete(ctx, acme.ID)
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.TakeOperation(ctx, third.ID, by)
	b.ok(err)
	_, err = b.cat.SetState(ctx, acme.ID, catalog.Deleted, catalog.Deleting)
	b.ok(err)
	_, _, err = b.cat.BeginDeletion(ctx, acme.ID, 0, "root@test", []string{"one"})
	b.is(err, catalog.ErrNotFound)
}

// Figures never go down, and a day that comes again isn't counted twice.
func TestRollUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme, globex := b.tenant("acme"), b.tenant("globex")
	day := func(d int, requests int64) catalog.Usage {
		return catalog.Usage{
			Day: time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC), Model: "m", Requests: requests, PromptTokens: 10 * requests, CompletionTokens: requests,
		}
	}
	b.ok(b.cat.RollUp(ctx, globex.ID, []catalog.Usage{day(1, 100)}))
	b.ok(b.cat.RollUp(ctx, acme.ID, nil))
	b.ok(b.cat.RollUp(ctx, acme.ID, []catalog.Usage{day(1, 5), day(2, 1)}))
	b.ok(b.cat.RollUp(ctx, acme.ID, []catalog.Usage{day(1, 5), day(2, 3)}))
	b.ok(b.cat.RollUp(ctx, acme.ID, []catalog.Usage{day(1, 2)})) // some were erased since
	got, err := b.cat.UsageByMonth(ctx, acme.ID)
	b.ok(err)
	if len(got) != 1 || got[0].Requests != 8 || got[0].PromptTokens != 80 || got[0].CompletionTokens != 8 || got[0].Day.Month() != 11 {
		t.Errorf("%+v", got)
	}
}

// Only what is being deleted is erased.
func TestEraseNeedsDeleting(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.tenant("acme")
	b.key(acme.ID, catalog.ScopeAll)
	b.is(b.cat.EraseAccess(t.Context(), acme.ID), catalog.ErrConflict)
	b.is(b.cat.ErasePerson(t.Context(), acme.ID), catalog.ErrConflict)
	if a, err := b.cat.Access(t.Context(), acme.ID); err != nil || a.Keys == 0 || a.Configurations != 1 {
		t.Errorf("%+v %v", a, err)
	}
	if blank, err := b.cat.Erased(t.Context(), acme.ID); err != nil || blank {
		t.Errorf("erased: %v %v", blank, err)
	}
}

// Of a deleted tenant nothing is left to be visited, and no head of its audit.
func TestDeletedIsNotDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	conn := b.as(migrations.RoleCatalog)
	b.exec(conn, `insert into audit_heads (tenant, n, head, sealed_at) values ($1, 1, $2, now())`, acme.ID, make([]byte, 32))
	b.ok(b.cat.AppendAudit(ctx, "op", "tenant.delete", acme.ID, nil))
	left := func() (due, heads int64) {
		return b.number(conn, `select count(*) from tenant_due where tenant = $1`, acme.ID),
			b.number(conn, `select count(*) from audit_heads where tenant = $1`, acme.ID)
	}
	if due, heads := left(); due != 1 || heads != 1 {
		t.Fatalf("%d visits, %d heads", due, heads)
	}
	_, _, err := b.cat.BeginDeletion(ctx, acme.ID, 0, "op", []string{"one"})
	b.ok(err)
	if blank, err := b.cat.Erased(ctx, acme.ID); err != nil || blank {
		t.Errorf("erased: %v %v", blank, err)
	}
	b.ok(b.cat.ErasePerson(ctx, acme.ID))
	if blank, err := b.cat.Erased(ctx, acme.ID); err != nil || !blank {
		t.Errorf("erased: %v %v", blank, err)
	}
	_, err = b.cat.SetState(ctx, acme.ID, catalog.Deleted, catalog.Deleting)
	b.ok(err)
	b.ok(b.cat.AppendAudit(ctx, "op", "receipt.show", acme.ID, nil))
	if due, heads := left(); due != 0 || heads != 0 {
		t.Errorf("%d visits, %d heads", due, heads)
	}
}
