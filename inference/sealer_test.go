package inference_test

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/inference"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
)

// sealing is a sealer that runs, and what it notes outside.
type sealing struct {
	*testing.T
	sealer *inference.Sealer
	logs   *logs
	key    ed25519.PrivateKey
	stop   func() // ends it, and waits

	mu     sync.Mutex // guards what follows
	heads  map[catalog.TenantID]catalog.AuditHead
	calls  int // of Heads
	refuse error
}

func startSealer(t *testing.T, again func(context.Context, catalog.TenantID) (inference.Borrower, error)) *sealing {
	t.Helper()
	s := &sealing{T: t, logs: &logs{}, heads: map[catalog.TenantID]catalog.AuditHead{}}
	_, key, err := ed25519.GenerateKey(nil)
	s.ok(err)
	s.key = key
	s.sealer, err = inference.NewSealer(inference.SealerConfig{
		Sign:   func(msg []byte) ([]byte, int64, error) { return ed25519.Sign(key, msg), 1, nil },
		Again:  again,
		Logger: slog.New(slog.NewTextHandler(s.logs, nil)),
		Every:  50 * time.Millisecond,
		Heads: func(_ context.Context, list []catalog.AuditHead) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.calls++
			if s.refuse != nil {
				return s.refuse
			}
			for _, h := range list {
				s.heads[h.Tenant] = h
			}
			return nil
		},
	})
	s.ok(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.sealer.Run(ctx) }()
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-ended:
				s.ok(err)
			case <-time.After(10 * time.Second):
				t.Error("the sealer doesn't end")
			}
		})
	}
	t.Cleanup(s.stop)
	return s
}

func (s *sealing) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *sealing) noted(id catalog.TenantID) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads[id].N
}

func (s *sealing) until(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("waited in vain until %s; %s", what, s.logs)
		}
	}
}

// house is a tenant with an audit; its fence can be moved.
type house struct {
	*sealing
	id     catalog.TenantID
	url    string
	lender *lender
}

func (s *sealing) house() *house {
	s.Helper()
	db := pgtest.Tenant(s)
	h := &house{sealing: s, url: db.TenantURL}
	var err error
	h.id, err = catalog.ParseTenantID(db.ID.String())
	s.ok(err)
	h.lender = h.lend(10)
	owner, err := pgx.Connect(s.Context(), db.OwnerURL)
	s.ok(err)
	defer func() { s.ok(owner.Close(s.Context())) }()
	_, err = owner.Exec(s.Context(), `update freehold.tenant_identity set fence = 10`)
	s.ok(err)
	return h
}

func (h *house) lend(epoch int64) *lender {
	h.Helper()
	conn, err := pgx.Connect(h.Context(), h.url)
	h.ok(err)
	h.Cleanup(func() {
		h.stop() // it may be borrowing
		_ = conn.Close(context.WithoutCancel(h.Context()))
	})
	return &lender{conn: conn, epoch: epoch}
}

// act writes a row as a request does, and notes it.
func (h *house) act(via *lender) {
	h.Helper()
	h.ok(h.lender.Borrow(h.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		return db.AddAuditEvent(ctx, "system", "act", "", nil)
	}))
	h.sealer.Note(inference.Call{Tenant: via, Scope: h.id.String()})
}

func (h *house) check() (check tenantdb.AuditCheck) {
	h.Helper()
	h.ok(h.lender.Borrow(h.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		check, err = db.VerifyAudit(ctx, tenantdb.AuditVerify{Tenant: h.id, Verify: func(_ int64, msg, sig []byte) error {
			if !ed25519.Verify(h.key.Public().(ed25519.PublicKey), msg, sig) {
				return catalog.ErrSignature
			}
			return nil
		}})
		return err
	}))
	return check
}

// What was noted is sealed within a second, of each tenant, and its head goes out.
func TestSealer(t *testing.T) {
	t.Parallel()
	s := startSealer(t, nil)
	one, two := s.house(), s.house()
	for range 5 {
		one.act(one.lender)
	}
	two.act(two.lender)
	s.until("both heads are out", func() bool { return s.noted(one.id) > 0 && s.noted(two.id) > 0 })
	s.until("all is sealed", func() bool { return one.check().Rows == 5 && two.check().Rows == 1 })
	for _, h := range []*house{one, two} {
		if got := h.check(); !got.OK || got.Unsealed != 0 {
			t.Errorf("%+v", got)
		}
	}
	// Without new rows nobody is bothered.
	s.until("it is at rest", func() bool {
		n := one.lender.lent[tenantdb.Background].Load()
		time.Sleep(200 * time.Millisecond)
		return n == one.lender.lent[tenantdb.Background].Load()
	})
	if s.logs.String() != "" {
		t.Errorf("logged %s", s.logs)
	}
}

// The last rows are sealed when the node ends, and their head is noted.
func TestSealer_lastPass(t *testing.T) {
	t.Parallel()
	s := startSealer(t, nil)
	h := s.house()
	h.act(h.lender)
	s.stop()
	if got := h.check(); !got.OK || got.Rows != 1 || s.noted(h.id) != 1 {
		t.Errorf("%+v, head %d noted", got, s.noted(h.id))
	}
}

// A database that is away is tried again; others don't wait for it; and what the
// catalog didn't take is given again.
func TestSealer_triesAgain(t *testing.T) {
	t.Parallel()
	s := startSealer(t, nil)
	down, up := s.house(), s.house()
	down.lender.fail = func(class tenantdb.Class, nth int32) error {
		if class == tenantdb.Background && nth < 3 {
			return tenantdb.ErrUnavailable
		}
		return nil
	}
	s.mu.Lock()
	s.refuse = catalog.ErrUnavailable
	s.mu.Unlock()
	down.act(down.lender)
	up.act(up.lender)
	s.until("the other is sealed", func() bool { return up.check().Rows == 1 })
	s.until("it is sealed", func() bool { return down.check().Rows == 1 })
	s.until("the catalog was asked again", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.calls > 2
	})
	s.mu.Lock()
	s.refuse = nil
	s.mu.Unlock()
	s.until("heads are out", func() bool { return s.noted(up.id) == 1 && s.noted(down.id) == 1 })
	if n := strings.Count(s.logs.String(), "not noted"); n != 1 || strings.Contains(s.logs.String(), "left to a worker") {
		t.Errorf("logged %s", s.logs)
	}
}

// A borrower from before a change is fenced: a newer one seals, noted or asked for.
func TestSealer_fenced(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards fresh
	var fresh inference.Borrower
	s := startSealer(t, func(context.Context, catalog.TenantID) (inference.Borrower, error) {
		mu.Lock()
		defer mu.Unlock()
		if fresh == nil {
			return nil, tenantdb.ErrFenced
		}
		return fresh, nil
	})
	h := s.house()
	old := h.lend(9)
	h.act(old)
	s.until("it is left", func() bool { return strings.Contains(s.logs.String(), "left to a worker") })
	if got := h.check(); got.Unsealed != 1 {
		t.Errorf("sealed through a fence: %+v", got)
	}
	mu.Lock()
	fresh = h.lender
	mu.Unlock()
	h.act(old)
	s.until("the asked one seals", func() bool { return s.noted(h.id) == 1 })
	h.act(h.lender)
	s.until("the noted one seals", func() bool { return h.check().Rows == 3 })
}

func TestNewSealer_namesAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := inference.NewSealer(inference.SealerConfig{Every: -1})
	for _, want := range []string{"Sign", "Heads", "Logger", "Every"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't name %s", err, want)
		}
	}
}
