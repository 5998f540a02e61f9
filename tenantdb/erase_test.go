package tenantdb_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
)

var eraser = tenantdb.Eraser{Actor: "key:key_1", RequestID: "req_erase"}

// said is a settled prediction of an end user's, with an answer that could be given
// again.
func (b *bench) said(user, idempotencyKey string) uuid.UUID {
	b.Helper()
	a := admission()
	a.EndUser, a.IdempotencyKey, a.RequestHash = user, idempotencyKey, []byte("hash")
	b.ok(b.admit(b.db, a))
	if !b.settle(tenantdb.Settlement{
		ID: a.ID, At: a.CreatedAt, RequestID: a.RequestID, APIKey: "key_1", Kind: "chat", Model: "m", State: "succeeded",
		Output: []byte(`{"text": "hello"}`), Salt: []byte("salt"), PayloadHash: []byte("payload hash"),
		PromptTokens: 3, CompletionTokens: 4, Cost: 5, IdempotencyKey: idempotencyKey, Replay: true, Answer: []byte("sealed"),
	}) {
		b.Fatal("not settled")
	}
	return a.ID
}

// kept counts what is left of what was said, and whether it is marked as erased.
func (b *bench) kept(id uuid.UUID) (payload int, erased bool) {
	b.Helper()
	b.ok(b.owner.QueryRow(b.Context(), `
		select num_nonnulls(p.input, p.output, p.salt) + (p.end_user <> '')::int
		       + (select count(i.answer)::int from freehold.idempotency_keys i where i.prediction = p.id), p.erased_at is not null
		  from freehold.predictions p where p.id = $1`, id).Scan(&payload, &erased))
	return payload, erased
}

// events are the rows that erasures left in the audit: subject and number.
func (b *bench) events() (list []string) {
	b.Helper()
	rows, err := b.owner.Query(b.Context(), `
		select a.actor || ' ' || a.request_id || ' ' || a.subject || ' ' || (a.detail->>'predictions')
		  from freehold.audit_log a where a.action = 'prediction.erase' order by a.id`)
	b.ok(err)
	list, err = pgx.CollectRows(rows, pgx.RowTo[string])
	b.ok(err)
	return list
}

func TestErasePrediction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	gone, other, working := b.said("ann", "k1"), b.said("ann", "k2"), b.admitted().ID
	if n, erased := b.kept(gone); n != 5 || erased {
		t.Fatalf("before: %d parts, erased %t", n, erased)
	}
	for range 2 { // twice is once
		b.ok(b.db.ErasePrediction(t.Context(), eraser, gone))
	}
	if n, erased := b.kept(gone); n != 0 || !erased {
		t.Errorf("%d parts are left, erased %t", n, erased)
	}
	if n, erased := b.kept(other); n != 5 || erased {
		t.Errorf("of another one %d parts are left, erased %t", n, erased)
	}
	p, err := b.db.Prediction(t.Context(), gone)
	b.ok(err)
	if p.PromptTokens != 3 || p.CompletionTokens != 4 || p.State != "succeeded" || p.Model != "m" {
		t.Errorf("counts: %+v", p)
	}
	var hash []byte
	var cost int64
	b.ok(b.owner.QueryRow(t.Context(), `select p.payload_hash, l.cost from freehold.predictions p
		join freehold.usage_ledger l on l.id = p.id where p.id = $1`, gone).Scan(&hash, &cost))
	if string(hash) != "payload hash" || cost != 5 {
		t.Errorf("hash %q, cost %d", hash, cost)
	}
	if events := b.events(); len(events) != 1 || events[0] != "key:key_1 req_erase pred_"+gone.String()+" 1" {
		t.Errorf("audit %q", events)
	}

	if err := b.db.ErasePrediction(t.Context(), eraser, working); !errors.Is(err, tenantdb.ErrInProgress) {
		t.Errorf("one at work: %v", err)
	}
	if n, erased := b.kept(working); n != 2 || erased {
		t.Errorf("of one at work %d parts are left, erased %t", n, erased)
	}
	if err := b.db.ErasePrediction(t.Context(), eraser, uuid.Must(uuid.NewV7())); !errors.Is(err, tenantdb.ErrNotFound) {
		t.Errorf("one that isn't there: %v", err)
	}
	b.fence(11)
	if err := b.db.ErasePrediction(t.Context(), eraser, other); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("behind the fence: %v", err)
	}
	if n, _ := b.kept(other); n != 5 {
		t.Error("erased behind the fence")
	}
}

// An end user is erased in batches, each with its own event, under all names that
// it is stored by and no other.
func TestEraseUser(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ann []uuid.UUID
	for _, user := range []string{"ann", "ann", "[EMAIL_7]"} {
		ann = append(ann, b.said(user, ""))
	}
	bob, nobody := b.said("bob", ""), b.said("", "")
	b.admitted() // of ann's
	names := []string{"ann", "[EMAIL_7]", ""}
	var batches []tenantdb.Erasure
	for {
		e, err := b.db.EraseUser(t.Context(), eraser, names, 2)
		b.ok(err)
		batches = append(batches, e)
		if e.Erased < 2 {
			break
		}
	}
	if len(batches) != 2 || batches[0].Erased != 2 || batches[1].Erased != 1 || batches[1].InProgress != 1 {
		t.Errorf("%+v", batches)
	}
	for _, id := range ann {
		if n, erased := b.kept(id); n != 0 || !erased {
			t.Errorf("%d parts are left, erased %t", n, erased)
		}
	}
	for id, parts := range map[uuid.UUID]int{bob: 4, nobody: 3} {
		if n, erased := b.kept(id); n != parts || erased {
			t.Errorf("of another one %d parts are left, erased %t", n, erased)
		}
	}
	// The names of users are personal data: the audit has none.
	if events := b.events(); len(events) != 2 || events[0] != "key:key_1 req_erase  2" || events[1] != "key:key_1 req_erase  1" {
		t.Errorf("audit %q", events)
	}
	if e, err := b.db.EraseUser(t.Context(), eraser, names, 2); err != nil || e.Erased != 0 || len(b.events()) != 2 {
		t.Errorf("again: %+v, %v", e, err)
	}
	b.fence(11)
	if _, err := b.db.EraseUser(t.Context(), eraser, names, 2); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("behind the fence: %v", err)
	}
}
