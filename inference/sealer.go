package inference

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// SealerConfig of a Sealer: Sign, Heads and Logger are required.
type SealerConfig struct {
	// Sign signs with a key that is in no database; keyID names it.
	Sign func(msg []byte) (sig []byte, keyID int64, err error)
	// Heads notes outside of the tenants' databases where their audits end.
	Heads func(ctx context.Context, heads []catalog.AuditHead) error
	// Again lends the database of a tenant whose truth has moved on since its last
	// call was noted. nil: its rows wait for the next call, or for a worker.
	Again  func(ctx context.Context, tenant catalog.TenantID) (Borrower, error)
	Logger *slog.Logger
	// Every is how often what was noted is sealed; 300 ms.
	Every time.Duration
}

const (
	sealEvery = 300 * time.Millisecond
	// sealParallel is how many tenants are sealed at once, and sealRetries how many of
	// those may be such that failed before: databases that are away don't keep the
	// others waiting.
	sealParallel = 8
	sealRetries  = 2
	// sealTimeout bounds the sealing of one tenant, headsTimeout the noting of heads,
	// and lastPass all that is done once a Sealer is told to end.
	sealTimeout  = 5 * time.Second
	headsTimeout = 5 * time.Second
	lastPass     = time.Second
	// A tenant that failed is tried again after sealPause, doubled each time up to
	// maxSealPause, and after sealGiveUp tries in a row left to a worker.
	sealPause    = 500 * time.Millisecond
	maxSealPause = 10 * time.Second
	sealGiveUp   = 12
	// sealsInARow bounds how long one borrow may last when rows come in faster than
	// one seal takes them.
	sealsInARow = 4
)

// Sealer seals what this node has written into tenants' audits, within a second. What
// a node that died leaves unsealed is a worker's.
type Sealer struct {
	cfg SealerConfig

	mu    sync.Mutex // guards what follows
	noted map[catalog.TenantID]*unsealed
	heads map[catalog.TenantID]catalog.AuditHead // not noted outside yet
}

// unsealed is a tenant that may have rows to seal.
type unsealed struct {
	tenant Borrower  // of the newest call
	again  bool      // noted since the sealing that is going on began
	busy   bool      // being sealed
	fails  int       // in a row
	due    time.Time // after a failure
}

// NewSealer checks cfg. Run it.
func NewSealer(cfg SealerConfig) (*Sealer, error) {
	var errs []error
	if cfg.Sign == nil {
		errs = append(errs, errors.New("inference: SealerConfig.Sign is required"))
	}
	if cfg.Heads == nil {
		errs = append(errs, errors.New("inference: SealerConfig.Heads is required"))
	}
	if cfg.Logger == nil {
		errs = append(errs, errors.New("inference: SealerConfig.Logger is required"))
	}
	if cfg.Every < 0 {
		errs = append(errs, errors.New("inference: SealerConfig.Every is negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.Every == 0 {
		cfg.Every = sealEvery
	}
	return &Sealer{
		cfg: cfg, noted: map[catalog.TenantID]*unsealed{}, heads: map[catalog.TenantID]catalog.AuditHead{},
	}, nil
}

// Note says that a row was written into the audit of the call's tenant. It doesn't
// block.
func (s *Sealer) Note(c Call) {
	id, err := catalog.ParseTenantID(c.Scope)
	if err != nil {
		return // a call without a tenant has no audit
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.noted[id]
	if u == nil {
		u = &unsealed{}
		s.noted[id] = u
	}
	u.tenant, u.again = c.Tenant, true
}

// Run seals until ctx ends, then once more what is noted by then, for a second at
// most. It returns nil when nothing of its own goes on.
func (s *Sealer) Run(ctx context.Context) error {
	// What has begun may end after ctx, within the bound of the last pass.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var seals, notes sync.WaitGroup
	slots := make(chan struct{}, sealParallel)
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	notes.Go(func() { s.noteHeads(ctx, work) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			s.begin(work, slots, &seals)
		}
	}
	last := time.AfterFunc(lastPass, stop)
	defer last.Stop()
	notes.Wait()
	s.finish(work, slots, &seals)
	s.flush(work)
	return nil
}

// begin seals, in the background, tenants that are due, as many as there is room for.
func (s *Sealer) begin(ctx context.Context, slots chan struct{}, seals *sync.WaitGroup) {
	for _, id := range s.due(time.Now(), false) {
		select {
		case slots <- struct{}{}:
		default:
			s.put(id)
			continue
		}
		seals.Go(func() {
			defer func() { <-slots }()
			s.seal(ctx, id)
		})
	}
}

// finish seals everything that is noted, also what waits after a failure.
func (s *Sealer) finish(ctx context.Context, slots chan struct{}, seals *sync.WaitGroup) {
	seals.Wait()
	for _, id := range s.due(time.Now(), true) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		seals.Go(func() {
			defer func() { <-slots }()
			s.seal(ctx, id)
		})
	}
	seals.Wait()
}

// due takes tenants that are to be sealed now; all: also those that wait.
func (s *Sealer) due(now time.Time, all bool) (list []catalog.TenantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	retries := sealRetries
	for _, u := range s.noted {
		if u.busy && u.fails > 0 {
			retries--
		}
	}
	for id, u := range s.noted {
		switch {
		case u.busy || !all && now.Before(u.due):
			continue
		case u.fails > 0 && !all:
			if retries <= 0 {
				continue
			}
			retries--
		}
		u.busy, u.again = true, false
		list = append(list, id)
	}
	return list
}

// put gives back what due took.
func (s *Sealer) put(id catalog.TenantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.noted[id]
	u.busy, u.again = false, true
}

func (s *Sealer) seal(ctx context.Context, id catalog.TenantID) {
	s.mu.Lock()
	tenant := s.noted[id].tenant
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, sealTimeout)
	defer cancel()
	head, more, err := s.sealAs(ctx, tenant, id)
	if errors.Is(err, tenantdb.ErrFenced) && s.cfg.Again != nil {
		if tenant, err = s.cfg.Again(ctx, id); err == nil {
			head, more, err = s.sealAs(ctx, tenant, id)
		}
	}
	if s.sealed(id, head, more, err) {
		// Without the error's text where nobody knows what is in it.
		s.cfg.Logger.WarnContext(ctx, "audit not sealed: left to a worker", "tenant", id.String(),
			"fenced", errors.Is(err, tenantdb.ErrFenced), "database_unavailable", errors.Is(err, tenantdb.ErrUnavailable),
			"err_type", fmt.Sprintf("%T", err))
	}
}

// sealAs seals what is there; more says that there is probably something left.
func (s *Sealer) sealAs(ctx context.Context, tenant Borrower, id catalog.TenantID) (head catalog.AuditHead, more bool, err error) {
	err = tenant.Borrow(ctx, tenantdb.Background, func(ctx context.Context, db *tenantdb.DB) error {
		for range sealsInARow {
			h, n, err := db.Seal(ctx, id, s.cfg.Sign)
			if err != nil {
				return err
			}
			if head, more = h, n == tenantdb.SealRows; !more {
				break
			}
		}
		return nil
	})
	return head, more, err
}

// sealed takes down how a sealing ended; true when it is given up. What was sealed
// before an error counts.
func (s *Sealer) sealed(id catalog.TenantID, head catalog.AuditHead, more bool, err error) (left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if head.N > s.heads[id].N {
		s.heads[id] = head
	}
	u := s.noted[id]
	u.busy = false
	switch {
	case err == nil:
		u.fails, u.due = 0, time.Time{}
		if !u.again && !more {
			delete(s.noted, id)
		}
	// A fenced borrower stays fenced: only a newer one can seal.
	case errors.Is(err, tenantdb.ErrFenced) && !u.again, u.fails+1 >= sealGiveUp:
		delete(s.noted, id)
		return true
	default:
		u.fails++
		u.due = time.Now().Add(min(sealPause<<(u.fails-1), maxSealPause))
	}
	return false
}

// noteHeads notes heads outside, one statement a pass, until ctx ends.
func (s *Sealer) noteHeads(ctx, work context.Context) {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.flush(work)
		if err != nil && !failing {
			s.cfg.Logger.WarnContext(ctx, "heads of audits not noted in the catalog", "catalog_unavailable", errors.Is(err, catalog.ErrUnavailable))
		}
		failing = err != nil
	}
}

// flush notes what is to be noted. What failed is kept, unless it is older by then.
func (s *Sealer) flush(ctx context.Context) error {
	s.mu.Lock()
	heads := s.heads
	s.heads = map[catalog.TenantID]catalog.AuditHead{}
	s.mu.Unlock()
	if len(heads) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, headsTimeout)
	defer cancel()
	err := s.cfg.Heads(ctx, slices.Collect(maps.Values(heads)))
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, h := range heads {
		if h.N > s.heads[id].N {
			s.heads[id] = h
		}
	}
	return err
}
