package tenantdb_test

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/tenantdb"
)

// counters are a row of tenant_counters; "" is the tenant's.
type counters struct {
	Used, Reserved int64
	InFlight       int
}

func (b *bench) counters(key string) (c counters) {
	b.Helper()
	b.ok(b.owner.QueryRow(b.Context(), `select used, reserved, in_flight from freehold.tenant_counters where api_key = $1`, key).
		Scan(&c.Used, &c.Reserved, &c.InFlight))
	return c
}

func wants(least, most int64) tenantdb.Admission {
	a := admission()
	a.Least, a.Most = least, most
	return a
}

func number(n int64) *int64 { return &n }
func slots(n int) *int      { return &n }

func TestAdmit_limits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits tenantdb.Limits
		asked  []tenantdb.Admission
		want   []tenantdb.Outcome
		tokens []int64 // granted
		byKey  bool    // the last one's
	}{
		"clamped to what is left": {
			tenantdb.Limits{Tokens: 150, Slots: 9}, []tenantdb.Admission{wants(10, 100), wants(10, 100), wants(10, 100)},
			[]tenantdb.Outcome{tenantdb.Granted, tenantdb.Granted, tenantdb.Spent}, []int64{100, 50, 0}, false,
		},
		"a smaller one fits behind a refused one": {
			tenantdb.Limits{Tokens: 110, Slots: 9}, []tenantdb.Admission{wants(100, 100), wants(20, 100), wants(5, 5)},
			[]tenantdb.Outcome{tenantdb.Granted, tenantdb.Spent, tenantdb.Granted}, []int64{100, 0, 5}, false,
		},
		"slots": {
			tenantdb.Limits{Tokens: 1000, Slots: 2}, []tenantdb.Admission{wants(1, 1), wants(1, 1), wants(1, 1)},
			[]tenantdb.Outcome{tenantdb.Granted, tenantdb.Granted, tenantdb.Busy}, []int64{1, 1, 0}, false,
		},
		"spent is told before busy": {
			tenantdb.Limits{Tokens: 0, Slots: 1}, []tenantdb.Admission{wants(1, 1)}, []tenantdb.Outcome{tenantdb.Spent}, []int64{0}, false,
		},
		"the key's own tokens": {
			tenantdb.Limits{Tokens: 1000, Slots: 9, KeyTokens: number(120)}, []tenantdb.Admission{wants(10, 100), wants(10, 100), wants(10, 100)},
			[]tenantdb.Outcome{tenantdb.Granted, tenantdb.Granted, tenantdb.Spent}, []int64{100, 20, 0}, true,
		},
		"the key's own slots": {
			tenantdb.Limits{Tokens: 1000, Slots: 9, KeySlots: slots(1)}, []tenantdb.Admission{wants(1, 1), wants(1, 1)},
			[]tenantdb.Outcome{tenantdb.Granted, tenantdb.Busy}, []int64{1, 0}, true,
		},
		"a key's limit above the tenant's": {
			tenantdb.Limits{Tokens: 10, Slots: 9, KeyTokens: number(1000)}, []tenantdb.Admission{wants(10, 100), wants(1, 1)},
			[]tenantdb.Outcome{tenantdb.Granted, tenantdb.Spent}, []int64{10, 0}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			grants, err := b.db.AdmitAll(t.Context(), node, "key_1", c.limits, c.asked)
			b.ok(err)
			sum, at := int64(0), 0
			for i, g := range grants {
				if g.Outcome != c.want[i] || g.Granted != c.tokens[i] {
					t.Errorf("%d: %+v, want %s and %d", i, g, c.want[i], c.tokens[i])
				}
				sum += g.Granted
				if g.Outcome == tenantdb.Granted {
					at++
				}
			}
			if last := grants[len(grants)-1]; last.ByKey != c.byKey || last.Month.Day() != 1 {
				t.Errorf("last: %+v", last)
			}
			for _, key := range []string{"", "key_1"} {
				if got := b.counters(key); got != (counters{0, sum, at}) {
					t.Errorf("%q: %+v, want %d reserved by %d", key, got, sum, at)
				}
			}
			for i, a := range c.asked { // what was refused left nothing behind
				_, err := b.db.Prediction(t.Context(), a.ID)
				if (err == nil) != (c.want[i] == tenantdb.Granted) {
					t.Errorf("%d: %v", i, err)
				}
				s := tenantdb.Settlement{ID: a.ID, APIKey: "key_1", State: "succeeded", PromptTokens: 1, CompletionTokens: 2, Used: 3}
				if b.settle(s) != (c.want[i] == tenantdb.Granted) {
					t.Errorf("%d: settled", i)
				}
			}
			if got := b.counters(""); got != (counters{int64(3 * at), 0, 0}) || b.counters("key_1") != got {
				t.Errorf("afterwards: %+v and %+v", got, b.counters("key_1"))
			}
		})
	}
}

// Of many at once, on connections of their own, no more get in than there is room for.
func TestAdmit_atOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	l := tenantdb.Limits{Tokens: 1000, Slots: 5}
	var (
		wg            sync.WaitGroup
		inside, most  atomic.Int64
		granted, used atomic.Int64
	)
	for n := range 8 {
		db, key := tenantdb.On(b.connect(b.at.TenantURL), 10), "key_"+string(rune('a'+n%3))
		wg.Go(func() {
			for range 20 {
				a := wants(10, 30)
				grants, err := db.AdmitAll(t.Context(), node, key, l, []tenantdb.Admission{a})
				if err != nil {
					t.Error(err)
					return
				}
				if grants[0].Outcome != tenantdb.Granted {
					continue
				}
				most.Store(max(most.Load(), inside.Add(1)))
				granted.Add(1)
				time.Sleep(time.Millisecond)
				inside.Add(-1)
				used.Add(12)
				settled, err := db.SettleAll(t.Context(), []tenantdb.Settlement{{
					ID: a.ID, APIKey: key, State: "succeeded", PromptTokens: 5, CompletionTokens: 7, Used: 12,
				}})
				if err != nil || !settled[0] {
					t.Errorf("settle: %v, %v", settled, err)
				}
			}
		})
	}
	wg.Wait()
	if got := b.counters(""); got != (counters{used.Load(), 0, 0}) || used.Load() > 1000 || most.Load() > 5 || granted.Load() < 20 {
		t.Errorf("%+v, used %d by %d, %d at once", got, used.Load(), granted.Load(), most.Load())
	}
}

// Last month's tokens are not this month's, also for what was admitted then.
func TestAdmit_monthRollsOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old := b.admitted()
	for _, sql := range []string{
		`update freehold.tenant_counters set month = month - interval '1 month', used = 900`,
		`update freehold.reservations set month = month - interval '1 month'`,
	} {
		_, err := b.owner.Exec(t.Context(), sql)
		b.ok(err)
	}
	grants, err := b.db.AdmitAll(t.Context(), node, "key_2", tenantdb.Limits{Tokens: 200, Slots: 9}, []tenantdb.Admission{wants(10, 100)})
	b.ok(err)
	if grants[0].Granted != 100 || grants[0].TokensLeft != 100 || grants[0].SlotsLeft != 7 {
		t.Errorf("%+v", grants[0])
	}
	b.settle(tenantdb.Settlement{ID: old.ID, APIKey: "key_1", State: "succeeded", PromptTokens: 50, Used: 50})
	if got := b.counters(""); got != (counters{0, 100, 1}) {
		t.Errorf("%+v", got)
	}
}

func TestAdmit_idempotencyKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	claim := func(key string) (tenantdb.Admission, tenantdb.Outcome) {
		a := admission()
		a.IdempotencyKey, a.RequestHash = key, []byte("hash")
		grants, err := b.db.AdmitAll(t.Context(), node, "key_1", plenty, []tenantdb.Admission{a})
		b.ok(err)
		return a, grants[0].Outcome
	}
	first, got := claim("k")
	if got != tenantdb.Granted {
		t.Fatal(got)
	}
	if _, got := claim("k"); got != tenantdb.Claimed {
		t.Errorf("at work: %s", got)
	}
	b.settle(tenantdb.Settlement{ID: first.ID, APIKey: "key_1", IdempotencyKey: "k", State: "succeeded", Replay: true, Answer: []byte("sealed")})
	if _, got := claim("k"); got != tenantdb.Claimed {
		t.Errorf("answered: %s", got)
	}
	known, err := b.db.Claim(t.Context(), "key_1", "k")
	b.ok(err)
	if !known.Done || string(known.Answer) != "sealed" || string(known.RequestHash) != "hash" || known.Prediction != first.ID {
		t.Errorf("%+v", known)
	}
	if _, err := b.db.Claim(t.Context(), "key_2", "k"); !errors.Is(err, tenantdb.ErrNotFound) {
		t.Errorf("another key's: %v", err)
	}
	_, err = b.owner.Exec(t.Context(), `update freehold.idempotency_keys set expires_at = now()`)
	b.ok(err)
	if _, err := b.db.Claim(t.Context(), "key_1", "k"); !errors.Is(err, tenantdb.ErrNotFound) {
		t.Errorf("expired: %v", err)
	}
	second, got := claim("k")
	if got != tenantdb.Granted {
		t.Errorf("expired: %s", got)
	}
	b.settle(tenantdb.Settlement{ID: second.ID, APIKey: "key_1", IdempotencyKey: "k", State: "failed"})
	if _, got := claim("k"); got != tenantdb.Granted {
		t.Errorf("after a failure: %s", got)
	}
}

// A settlement writes prediction, ledger and audit, each once.
func TestSettle_writesAll(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, silent := b.admitted(), admission()
	silent.Audit = false
	b.ok(b.admit(b.db, silent))
	s := tenantdb.Settlement{
		At: a.CreatedAt, RequestID: "req_1", APIKey: "key_1", Kind: "chat", Model: "m", State: "succeeded", Output: []byte(`{}`),
		Salt: []byte("salt"), PayloadHash: []byte("hash"), PromptTokens: 3, CompletionTokens: 4,
		InputPrice: 1_000_000_000, OutputPrice: 2_000_000_000, Cost: 11_000, Detail: []byte(`{"kind":"chat"}`),
	}
	for range 2 {
		for _, id := range []uuid.UUID{a.ID, silent.ID} {
			s.ID = id
			b.settle(s)
		}
	}
	var ledger, audits int
	var cost int64
	b.ok(b.owner.QueryRow(t.Context(), `select count(*), sum(cost) from freehold.usage_ledger`).Scan(&ledger, &cost))
	b.ok(b.owner.QueryRow(t.Context(), `select count(*) from freehold.audit_log where id = $1 and actor = 'key:key_1'
		and subject = 'pred_' || id and payload_hash = 'hash' and detail::text = '{"kind":"chat"}' and seal is null`, a.ID).Scan(&audits))
	if ledger != 2 || cost != 22_000 || audits != 1 {
		t.Errorf("%d ledger rows for %d, %d audit rows", ledger, cost, audits)
	}
	for _, sql := range []string{
		`update freehold.usage_ledger set cost = 0`, `delete from freehold.usage_ledger`,
		`update freehold.audit_log set actor = ''`, `delete from freehold.audit_log`,
		`insert into freehold.audit_log (id, at, actor, action, seal, pos) values (gen_random_uuid(), now(), '', '', 1, 1)`,
		`insert into freehold.audit_seals values (1, 1, sha256(''), sha256(''), now(), 1, '')`,
	} {
		if _, err := b.conn.Exec(t.Context(), sql); err == nil {
			t.Errorf("the tenant's role may %s", sql)
		}
	}
}

// What a dead process left gives its slot back at once, its tokens never, and ends
// once, without a bill.
func TestSweep(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dead := uuid.Must(uuid.NewV7())
	lost, mine := wants(10, 100), wants(10, 100)
	lost.IdempotencyKey, lost.RequestHash = "k", []byte("hash")
	_, err := b.db.AdmitAll(t.Context(), dead, "key_1", plenty, []tenantdb.Admission{lost})
	b.ok(err)
	b.ok(b.admit(b.db, mine))
	live := []uuid.UUID{node}
	for what, sweep := range map[string]func() (int, error){
		"all alive": func() (int, error) { return b.db.Sweep(t.Context(), []uuid.UUID{node, dead}, 0) },
		"too young": func() (int, error) { return b.db.ReleaseSlots(t.Context(), live, time.Hour) },
		"no longer": func() (int, error) { return b.db.Sweep(t.Context(), live, time.Hour) },
	} {
		if n, err := sweep(); err != nil || n != 0 {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
	for _, want := range []int{1, 0} {
		if n, err := b.db.ReleaseSlots(t.Context(), live, 0); err != nil || n != want {
			t.Errorf("released %d, %v", n, err)
		}
	}
	if got := b.counters(""); got != (counters{0, 200, 1}) {
		t.Errorf("released: %+v", got)
	}
	for _, want := range []int{1, 0} {
		if n, err := b.db.Sweep(t.Context(), live, 0); err != nil || n != want {
			t.Errorf("swept %d, %v", n, err)
		}
	}
	if got := b.counters("key_1"); got != (counters{100, 100, 1}) || b.counters("") != got {
		t.Errorf("swept: %+v", got)
	}
	p, err := b.db.Prediction(t.Context(), lost.ID)
	b.ok(err)
	if p.State != "interrupted" || p.SettledAt == nil || b.settle(tenantdb.Settlement{ID: lost.ID, State: "succeeded", Cost: 5}) {
		t.Errorf("%+v", p)
	}
	var states []string
	b.ok(b.owner.QueryRow(t.Context(), `
		select array_agg(l.state || l.cost || (a.payload_hash = sha256(p.salt || convert_to(p.input::text, 'UTF8') || '\x00'::bytea))::text)
		  from freehold.usage_ledger l join freehold.audit_log a using (id) join freehold.predictions p using (id)`).Scan(&states))
	if !slices.Equal(states, []string{"interrupted0true"}) {
		t.Error(states)
	}
	if _, err := b.db.Claim(t.Context(), "key_1", "k"); !errors.Is(err, tenantdb.ErrNotFound) {
		t.Errorf("its Idempotency-Key: %v", err)
	}
}
