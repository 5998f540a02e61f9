package inference_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/inference"
	"freehold/inference/engine"
	"freehold/tenantdb"
)

// losing loses the answers of admissions: of those that the database has done, or
// never got.
type losing struct {
	*lender
	left int
	done bool
}

func (l *losing) Borrow(ctx context.Context, class tenantdb.Class, fn func(context.Context, *tenantdb.DB) error) error {
	if class != tenantdb.Interactive || l.left == 0 {
		return l.lender.Borrow(ctx, class, fn)
	}
	l.left--
	if l.done {
		if err := l.lender.Borrow(ctx, class, fn); err != nil {
			return err
		}
		return tenantdb.ErrUnavailable
	}
	return l.lender.Borrow(ctx, class, func(ctx context.Context, db *tenantdb.DB) error {
		ended, cancel := context.WithTimeout(ctx, -1)
		defer cancel()
		return fn(ended, db)
	})
}

// Nobody knows whether an admission was done: what it took comes back at once, its
// Idempotency-Key is free for the next attempt, and the bill is empty.
func TestAdmit_answerLost(t *testing.T) {
	t.Parallel()
	for name, done := range map[string]bool{"it was done": true, "it never came": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			l := &losing{lender: b.lender, left: 1, done: done}
			b.call.Tenant = l
			b.call.IdempotencyKey, b.call.RequestHash = "k", make([]byte, 32)
			b.hears("hello")
			if _, err := b.Chat(t.Context(), b.call, b.hi()); err == nil || errors.Is(err, inference.ErrStopped) {
				t.Fatalf("%v", err)
			}
			var slots, reserved, used, left, keys int
			read := func() {
				t.Helper()
				b.row(`select coalesce(max(in_flight), 0), coalesce(max(reserved), 0), coalesce(max(used), 0) from freehold.tenant_counters`, &slots, &reserved, &used)
				b.row(`select (select count(*) from freehold.reservations), (select count(*) from freehold.idempotency_keys where not done)`, &left, &keys)
				if slots != 0 || reserved != 0 || left != 0 || keys != 0 {
					t.Errorf("%d slots, %d tokens, %d reservations, %d keys are still taken", slots, reserved, left, keys)
				}
			}
			read()
			if used != 0 {
				t.Errorf("used %d", used)
			}
			// What wasn't there may come late: somebody looks again.
			if late := len(b.spooled); done && late != 0 || !done && late != 1 {
				t.Errorf("%d settlements spooled", late)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if !done { // its connection is broken
				return
			}
			if _, err := b.Chat(ctx, b.call, b.hi()); err != nil {
				t.Fatalf("again: %v", err)
			}
			read()
			var states string
			b.row(`select string_agg(state, ' ' order by state) from freehold.usage_ledger`, &states)
			if used != 5 || states != "interrupted succeeded" {
				t.Errorf("used %d, states %s", used, states)
			}
		})
	}
}

// A client that leaves before an engine was asked has used nothing.
func TestChat_leftBeforeTheEngine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	asked := false
	b.engine.chat = func(context.Context, *engine.ChatRequest) (*engine.ChatResponse, error) {
		asked = true
		return answers("hello"), nil
	}
	ctx, leave := context.WithCancel(t.Context())
	b.call.Told = func(inference.Standing) { leave() } // once it is let in
	if _, err := b.Chat(ctx, b.call, b.hi()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	var used int
	b.row(`select max(used) from freehold.tenant_counters`, &used)
	if asked || used != 0 {
		t.Errorf("engine asked: %t, used %d", asked, used)
	}
	b.wantEnd("cancelled", "", 0, 0)
}

// The list of those alive is shared by all who look.
func TestRelease_sharedList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := make([]uuid.UUID, 1, 4)
	list[0] = uuid.Must(uuid.NewV7())
	b.live.Nodes = list
	b.call.Config.ConcurrentRequestLimit = 1
	_ = b.lender.Borrow(t.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		_, err := db.AdmitAll(ctx, list[0], "key1", tenantdb.Limits{Tokens: 1000, Slots: 1}, []tenantdb.Admission{{
			ID: uuid.Must(uuid.NewV7()), CreatedAt: time.Now(), Kind: "chat", Least: 1, Most: 100,
		}})
		return err
	})
	if _, err := b.Chat(t.Context(), b.call, b.hi()); !errors.Is(err, inference.ErrConcurrency) {
		t.Fatalf("%v", err)
	}
	if list[:2][1] != uuid.Nil {
		t.Error("the caller's list was written to")
	}
}

// Neither the database nor the store takes a settlement at first: it is tried on.
func TestSettle_storeAwayToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hears("hello")
	var mu sync.Mutex
	tried := 0
	b.spoolErr = func() error {
		mu.Lock()
		defer mu.Unlock()
		tried++
		return errors.New("the store is away")
	}
	b.lender.fail = func(class tenantdb.Class, nth int32) error {
		if class == tenantdb.Settle && nth <= 6 {
			return tenantdb.ErrUnavailable
		}
		return nil
	}
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Fatal(err)
	}
	if b.wantEnd("succeeded", "", 3, 2); tried != 1 {
		t.Errorf("spooled %d times", tried)
	}
}

// hanging is a database that takes no settlement and refuses none.
type hanging struct{ *lender }

func (h hanging) Borrow(ctx context.Context, class tenantdb.Class, fn func(context.Context, *tenantdb.DB) error) error {
	if class != tenantdb.Settle {
		return h.lender.Borrow(ctx, class, fn)
	}
	<-ctx.Done()
	return ctx.Err()
}

// A settlement that hangs while the node stops is spooled before its end.
func TestSettle_stop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hears("hello")
	b.call.Tenant = hanging{b.lender}
	time.AfterFunc(50*time.Millisecond, b.Stop)
	began := time.Now()
	if _, err := b.Chat(t.Context(), b.call, b.hi()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); len(b.spooled) != 1 || took > 2*time.Second {
		t.Errorf("%d spooled after %s", len(b.spooled), took)
	}
}
