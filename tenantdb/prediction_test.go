package tenantdb_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/tenantdb"
)

func TestAdmitSettleRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.admitted()
	got, err := b.db.Prediction(t.Context(), p.ID)
	b.ok(err)
	if got.State != "in_progress" || got.SettledAt != nil || got.Output != nil || time.Since(got.CreatedAt) > time.Minute ||
		got.RequestID != p.RequestID || got.APIKey != "key_1" || got.EndUser != p.EndUser || !got.Streamed {
		t.Errorf("admitted: %+v", got)
	}
	b.settle(tenantdb.Settlement{
		ID: p.ID, State: "succeeded", Output: []byte(`{"b":1,  "a":2}`), PromptTokens: 3, CompletionTokens: 4,
	})
	got, err = b.db.Prediction(t.Context(), p.ID)
	b.ok(err)
	if got.State != "succeeded" || got.SettledAt == nil || got.PromptTokens != 3 || got.CompletionTokens != 4 ||
		string(got.Output) != `{"b":1,  "a":2}` || string(got.Input) != string(p.Input) {
		t.Errorf("settled: %+v", got)
	}
}

// A prompt may hold any character that JSON can: what was said is what is kept.
func TestAwkwardContent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, text := range []string{`"nul \u0000"`, `"half a pair \ud800"`, `"€ 😀 \\ \""`, `null`} {
		p := admission()
		p.Input = []byte(text)
		b.ok(b.admit(b.db, p))
		got, err := b.db.Prediction(t.Context(), p.ID)
		b.ok(err)
		if string(got.Input) != text {
			t.Errorf("%s came back as %s", text, got.Input)
		}
	}
	for name, spoil := range map[string]func(*tenantdb.Admission){
		"nul in text":  func(a *tenantdb.Admission) { a.EndUser = "a\x00b" },
		"no such kind": func(a *tenantdb.Admission) { a.Kind = "poem" },
		"not JSON":     func(a *tenantdb.Admission) { a.Input = []byte("{") },
		"not a v7":     func(a *tenantdb.Admission) { a.ID = uuid.New() },
	} {
		p := admission()
		spoil(&p)
		if err := b.admit(b.db, p); !errors.Is(err, tenantdb.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := b.admitted()
	if err := b.admit(b.db, p); !errors.Is(err, tenantdb.ErrInvalid) {
		t.Errorf("the same id twice: %v", err)
	}
}

func TestSettleExactlyOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.admitted()
	var (
		wg  sync.WaitGroup
		won atomic.Int64
	)
	for n := range 8 {
		db := tenantdb.On(b.connect(b.at.TenantURL), 10)
		wg.Go(func() {
			settled, err := db.SettleAll(t.Context(), []tenantdb.Settlement{{ID: p.ID, State: "succeeded", PromptTokens: int64(n + 1)}})
			if err != nil {
				t.Error(err)
			} else if settled[0] {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	first, err := b.db.Prediction(t.Context(), p.ID)
	b.ok(err)
	if won.Load() != 1 || b.settle(tenantdb.Settlement{ID: p.ID, State: "failed", PromptTokens: 99}) {
		t.Errorf("settled %d times", won.Load())
	}
	again, err := b.db.Prediction(t.Context(), p.ID)
	b.ok(err)
	if again.State != "succeeded" || again.PromptTokens != first.PromptTokens || !again.SettledAt.Equal(*first.SettledAt) {
		t.Errorf("settled twice: %+v, then %+v", first, again)
	}
	if b.settle(tenantdb.Settlement{ID: uuid.Must(uuid.NewV7()), State: "succeeded"}) {
		t.Error("settled what was never admitted")
	}
	for _, state := range []string{"in_progress", "", "done"} {
		q := b.admitted()
		_, err := b.db.SettleAll(t.Context(), []tenantdb.Settlement{{ID: q.ID, State: state}})
		if !errors.Is(err, tenantdb.ErrInvalid) {
			t.Errorf("state %q: %v", state, err)
		}
	}
}

func TestPredictionsArePaged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ids []uuid.UUID
	for range 5 {
		ids = append(ids, b.admitted().ID)
	}
	var got []uuid.UUID
	for after := uuid.Nil; ; {
		list, err := b.db.Predictions(t.Context(), after, 2)
		b.ok(err)
		if len(list) == 0 {
			break
		}
		for _, p := range list {
			got = append(got, p.ID)
		}
		after = got[len(got)-1]
	}
	if len(got) != 5 {
		t.Fatalf("%d predictions", len(got))
	}
	for i, id := range got {
		if id != ids[4-i] {
			t.Errorf("position %d holds %s, want newest first", i, id)
		}
	}
	if _, err := b.db.Prediction(t.Context(), uuid.Must(uuid.NewV7())); !errors.Is(err, tenantdb.ErrNotFound) {
		t.Errorf("unknown id: %v", err)
	}
}

// A week that was not made ahead is taken out of the default partition, with its rows.
func TestWeeksTakeTheirRowsAlong(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var id uuid.UUID
	err := b.owner.QueryRow(t.Context(), `
with far as (select now() + interval '100 days' as at)
insert into freehold.predictions (id, request_id, api_key, kind, model, state, created_at)
select freehold.uuid7_floor(far.at), '', '', 'chat', '', 'in_progress', far.at from far returning id`).Scan(&id)
	b.ok(err)
	place := func() (table string) {
		b.ok(b.owner.QueryRow(t.Context(),
			`select tableoid::regclass::text from freehold.predictions where id = $1`, id).Scan(&table))
		return table
	}
	if at := place(); at != "freehold.predictions_rest" {
		t.Fatalf("it lies in %s", at)
	}
	for _, want := range []int{1, 0} { // the second time it is there
		var made int
		b.ok(b.owner.QueryRow(t.Context(),
			`select freehold.make_prediction_weeks(now() + interval '100 days', 1)`).Scan(&made))
		if made != want {
			t.Errorf("made %d weeks, want %d", made, want)
		}
	}
	if at := place(); at == "freehold.predictions_rest" {
		t.Error("the row stayed behind")
	}
}
