package router

import (
	"context"
	"fmt"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jackc/pgx/v5/pgxpool"

	"freehold/catalog"
)

// Router is an LRU of pools. Close it.
type Router struct {
	cfg      Config
	template *pgxpool.Config

	// base ends when Close begins; stop ends it.
	base context.Context
	stop context.CancelFunc
	// work counts the goroutines that Close waits for. Add is called with mu
	// held and closed false, or from a goroutine that is counted already.
	work sync.WaitGroup

	// shares wakes whoever asks for this node's part of the budgets.
	shares chan struct{}

	// mu guards all that follows, and the fields of pools, servers, records,
	// tickets and flights. Nothing slow runs under it, and of callbacks only
	// Config.Weight.
	mu       sync.Mutex
	pools    *simplelru.LRU[catalog.TenantID, *pool]
	pinned   int // pools in the LRU with a pin
	servers  map[string]*server
	records  *simplelru.LRU[catalog.TenantID, *record]
	pauses   map[catalog.TenantID]*pause
	newest   *record // whose pool was opened last; never nil
	tick     int32   // seconds since the start, as the housekeeper counts
	kept     bool    // the housekeeper runs
	closing  map[*pool]struct{}
	flights  map[catalog.TenantID]*flight
	refusals *simplelru.LRU[catalog.TenantID, refusal]
	counts   counts
	closed   bool
}

// New makes a Router. It does no I/O, and names every mistake in cfg at once.
func New(cfg Config) (*Router, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure router: %w", err)
	}
	template, err := newTemplate(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure router: %w", err)
	}
	pools, err := simplelru.NewLRU[catalog.TenantID, *pool](unbounded, nil)
	if err != nil {
		return nil, fmt.Errorf("configure router: %w", err)
	}
	refusals, err := simplelru.NewLRU[catalog.TenantID, refusal](maxRefusals, nil)
	if err != nil {
		return nil, fmt.Errorf("configure router: %w", err)
	}
	records, err := simplelru.NewLRU[catalog.TenantID, *record](maxRecords, nil)
	if err != nil {
		return nil, fmt.Errorf("configure router: %w", err)
	}
	r := &Router{
		cfg:      cfg,
		template: template,
		pools:    pools,
		closing:  make(map[*pool]struct{}),
		flights:  make(map[catalog.TenantID]*flight),
		refusals: refusals,
		servers:  make(map[string]*server),
		records:  records,
		newest:   new(record),
		pauses:   make(map[catalog.TenantID]*pause),
		shares:   make(chan struct{}, 1),
	}
	// Background, because the router's life is no request's: Close ends it.
	r.base, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// For binds the router to a tenant and to the epoch that its caller decided on.
// It does no I/O.
func (r *Router) For(id catalog.TenantID, epoch int64) *Tenant {
	return &Tenant{router: r, id: id, epoch: epoch}
}
