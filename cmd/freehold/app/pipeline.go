package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/cmd/freehold/metrics"
	"freehold/inference"
	"freehold/router"
	"freehold/tenantdb"
)

const (
	// visitAfter is when a worker looks after a tenant that was active, and remindEvery
	// how often its activity is told to the catalog.
	visitAfter, remindEvery = time.Minute, 30 * time.Second
	// liveFor is how long an answer to "who is alive" is good.
	liveFor = time.Second
	// tellTime bounds what is told to the catalog behind a request, tellPause is how
	// long it is left alone after a failure, and lastTell bounds what is told at the end.
	tellTime, tellPause, lastTell = 5 * time.Second, time.Second, time.Second
	// reminders bounds the tenants that wait to be told of; one left out is told of
	// at its next request.
	reminders = 1024
)

// pipeline is the inference service with what works behind it.
type pipeline struct {
	*inference.Service
	sealer *inference.Sealer
	log    *slog.Logger
	due    chan catalog.TenantID

	// The catalog's.
	markDue   func(ctx context.Context, id catalog.TenantID, in time.Duration) error
	liveNodes func(ctx context.Context, within time.Duration) ([]uuid.UUID, error)

	mu   sync.Mutex // guards told
	told map[catalog.TenantID]time.Time

	// The last answer to "who is alive", also that there was none: while the catalog is
	// away requests don't wait for it one after the other.
	liveTurn chan struct{} // whoever has put something in may touch what follows
	live     []uuid.UUID
	liveErr  error
	liveAt   time.Time
}

func newPipeline(p *Platform, cache *catalog.Cache, rt *router.Router, eng *engines, m *metrics.Metrics, log *slog.Logger) (*pipeline, error) {
	node, err := uuid.Parse(cache.NodeID())
	if err != nil {
		return nil, err
	}
	w := &pipeline{
		markDue: p.Catalog.MarkDue, liveNodes: p.Catalog.LiveNodes, log: log,
		due: make(chan catalog.TenantID, reminders), told: map[catalog.TenantID]time.Time{}, liveTurn: make(chan struct{}, 1),
	}
	w.sealer, err = inference.NewSealer(inference.SealerConfig{
		Sign: p.Catalog.SignAudit, Heads: p.Catalog.SetAuditHeads, Logger: log,
		Again: func(ctx context.Context, id catalog.TenantID) (inference.Borrower, error) {
			route, err := cache.Route(ctx, id, 0)
			if err != nil {
				return nil, err
			}
			return rt.For(id, route.Epoch), nil
		},
	})
	if err != nil {
		return nil, err
	}
	w.Service, err = inference.New(inference.Config{
		Model: cache.Model, Models: cache.Models, Engine: eng.get, Artifact: artifact(p), Node: node, Logger: log,
		Spool: func(ctx context.Context, tenant string, s tenantdb.Settlement) error {
			id, err := catalog.ParseTenantID(tenant)
			if err == nil {
				err = p.Fleet.Spool(ctx, id, s)
			}
			return err
		},
		Live: func(ctx context.Context) (inference.Live, error) {
			nodes, err := w.alive(ctx, cache.DeadAfter())
			return inference.Live{Nodes: nodes, DeadAfter: cache.DeadAfter()}, err
		},
		Seal: func(tenant string, plain []byte) ([]byte, error) {
			id, err := catalog.ParseTenantID(tenant)
			if err != nil {
				return nil, err
			}
			return p.Catalog.SealAnswer(id, plain)
		},
		Open: func(tenant string, sealed []byte) ([]byte, error) {
			id, err := catalog.ParseTenantID(tenant)
			if err != nil {
				return nil, err
			}
			return p.Catalog.OpenAnswer(id, sealed)
		},
		Pseudonyms: func(tenant, name string) []string {
			id, err := catalog.ParseTenantID(tenant)
			if err != nil {
				return nil
			}
			list, err := p.Catalog.Pseudonyms(id, name)
			if err != nil {
				log.Error("pseudonym can't be made", "error", err)
			}
			return list
		},
		Admitted: w.remind, Settled: w.sealer.Note, Overrun: m.Overrun, Tried: m.Tried,
	})
	return w, err
}

// run does what works behind requests until ctx ends; what is pending is done then.
func (w *pipeline) run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return w.sealer.Run(ctx) })
	g.Go(func() error { w.tell(ctx); return nil })
	return g.Wait()
}

// remind has the catalog told that a tenant was active, at once the first time: a
// process that is killed leaves something to look after.
func (w *pipeline) remind(c inference.Call) {
	id, err := catalog.ParseTenantID(c.Scope)
	if err != nil {
		return
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.told[id]) < remindEvery {
		return
	}
	if len(w.told) >= 10*reminders {
		clear(w.told) // most of them are asleep again
	}
	select {
	case w.due <- id:
		w.told[id] = now
	default:
	}
}

// tell does so until ctx ends, and then with what waits, for a moment. What can't be
// told is told again: a tenant may have no other request that would remind us.
func (w *pipeline) tell(ctx context.Context) {
	for heard := true; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			continue
		case id := <-w.due:
			err := w.tellOf(ctx, id)
			if err != nil {
				w.remember(id)
				if heard && ctx.Err() == nil {
					w.log.WarnContext(ctx, "tenants' activity not told to the catalog", "error", err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(tellPause):
				}
			}
			heard = err == nil
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTell)
	defer cancel()
	for {
		select {
		case id := <-w.due:
			if err := w.tellOf(ctx, id); err != nil {
				w.log.WarnContext(ctx, "tenants' activity not told to the catalog", "error", err)
				return
			}
		default:
			return
		}
	}
}

// remember has it told of again, or at its next request.
func (w *pipeline) remember(id catalog.TenantID) {
	select {
	case w.due <- id:
	default:
		w.mu.Lock()
		delete(w.told, id)
		w.mu.Unlock()
	}
}

func (w *pipeline) tellOf(ctx context.Context, id catalog.TenantID) error {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	return w.markDue(ctx, id, visitAfter)
}

// alive lists the processes whose heartbeat isn't too old.
func (w *pipeline) alive(ctx context.Context, within time.Duration) ([]uuid.UUID, error) {
	select {
	case w.liveTurn <- struct{}{}:
		defer func() { <-w.liveTurn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if time.Since(w.liveAt) < liveFor {
		return w.live, w.liveErr
	}
	// An answer for all, also for those who wait longer than who asks.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTime)
	defer cancel()
	w.live, w.liveErr = w.liveNodes(ctx, within)
	w.liveAt = time.Now()
	return w.live, w.liveErr
}
