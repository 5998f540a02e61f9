package tenantdb_test

import (
	"errors"
	"testing"
	"time"

	"freehold/tenantdb"
)

// A month's usage is its ledger's rows, by the day and month (UTC) of admission.
func TestUsage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.owner.Exec(t.Context(), `
		insert into freehold.usage_ledger (id, request_id, api_key, kind, model, state, prompt_tokens, completion_tokens, cost, at)
		select gen_random_uuid(), 'r', 'k', 'chat', n.model, n.state, n.prompt, n.completion, n.cost, n.at
		  from (values ('m', 'succeeded', 1, 1, 1, timestamptz '2026-10-31 23:59:59.999999+00'),
		               ('m', 'succeeded', 10, 1, 100, timestamptz '2026-11-01 00:00:00+00'),
		               ('m', 'failed', 20, 0, 200, timestamptz '2026-11-01 23:59:59+00'),
		               ('a', 'succeeded', 5, 5, 50, timestamptz '2026-11-01 12:00:00+00'),
		               ('m', 'succeeded', 7, 7, 9223372036854775807, timestamptz '2026-11-30 23:59:59+00'),
		               ('m', 'succeeded', 7, 7, 1, timestamptz '2026-11-30 23:59:59+00'),
		               ('m', 'succeeded', 1, 1, 1, timestamptz '2026-12-01 00:00:00+00')) n (model, state, prompt, completion, cost, at)`)
	b.ok(err)
	month := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	got, err := b.db.Usage(t.Context(), month)
	b.ok(err)
	last := month.AddDate(0, 0, 29)
	want := []tenantdb.UsageLine{
		{Day: month, Model: "a", Requests: 1, PromptTokens: 5, CompletionTokens: 5, Cost: 50},
		{Day: month, Model: "m", Requests: 2, PromptTokens: 30, CompletionTokens: 1, Cost: 300},
		{Day: last, Model: "m", Requests: 2, PromptTokens: 14, CompletionTokens: 14, Cost: 1<<63 - 1}, // the most that fits
	}
	if len(got.Lines) != len(want) {
		t.Fatalf("%+v", got.Lines)
	}
	for i, l := range got.Lines {
		if !l.Day.Equal(want[i].Day) {
			t.Errorf("line %d is of %s", i, l.Day)
		}
		if l.Day = want[i].Day; l != want[i] {
			t.Errorf("line %d: %+v, want %+v", i, l, want[i])
		}
	}

	// What is used and reserved is the current month's, also when nobody came in it yet.
	a := b.admitted()
	got, err = b.db.Usage(t.Context(), month)
	b.ok(err)
	if got.Used != 0 || got.Reserved != a.Most {
		t.Errorf("used %d, reserved %d", got.Used, got.Reserved)
	}
	b.settle(tenantdb.Settlement{ID: a.ID, At: a.CreatedAt, APIKey: "key_1", Kind: "chat", Model: "m", State: "succeeded", PromptTokens: 30, CompletionTokens: 12, Used: 42})
	got, err = b.db.Usage(t.Context(), month)
	b.ok(err)
	if now := time.Now().UTC(); got.Used != 42 || got.Reserved != 0 || got.Month.Month() != now.Month() || got.Month.Day() != 1 {
		t.Errorf("used %d, reserved %d of %s", got.Used, got.Reserved, got.Month)
	}
	_, err = b.owner.Exec(t.Context(), "update freehold.tenant_counters set month = month - 40, used = 99, reserved = 98")
	b.ok(err)
	got, err = b.db.Usage(t.Context(), month)
	b.ok(err)
	if got.Used != 0 || got.Reserved != 0 {
		t.Errorf("of a month that is over: used %d, reserved %d", got.Used, got.Reserved)
	}

	b.fence(11)
	if _, err := b.db.Usage(t.Context(), month); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("behind the fence: %v", err)
	}
}
