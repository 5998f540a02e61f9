package router

import (
	"fmt"
	"path/filepath"
	"runtime"
	"time"
)

// housekeep starts the housekeeper with the first pool. It holds mu.
func (r *Router) housekeep() {
	if r.kept || r.closed {
		return
	}
	r.kept = true
	r.work.Go(r.keepHouse)
	if r.cfg.Share != nil {
		r.work.Go(r.keepShares)
	}
}

// keepHouse does once a second what no request waits for.
func (r *Router) keepHouse() {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-r.base.Done():
			return
		}
		r.mu.Lock()
		r.tick++
		r.letGo()
		r.placeWaiting()
		old := r.longLeases()
		r.mu.Unlock()
		for _, l := range old {
			r.cfg.Logger.Warn("long lease", "tenant", l.tenant, "age_ms", l.age.Milliseconds(), "taken_by", l.by)
		}
	}
}

// letGo closes pools that have had no connection for IdleTimeout: an idle tenant
// costs its route alone, and its record when something had failed. It holds mu.
func (r *Router) letGo() {
	now := time.Now()
	for _, id := range r.pools.Keys() { // the least recently used first
		p, _ := r.pools.Peek(id)
		last := p.idleAt
		if p.pins > 0 || len(p.tickets) > 0 || now.Sub(last) < r.cfg.IdleTimeout {
			if p.pins == 0 && now.Sub(last) < r.cfg.IdleTimeout {
				return // the others were used later
			}
			continue
		}
		r.detach(p)
		// Its heat is gone, and an idle tenant's route is all that it should cost.
		if p.rec.breaker == nil && len(p.rec.errors) == 0 {
			r.records.Remove(p.id)
		}
	}
}

// placeWaiting looks again at pools whose borrowers wait: time alone can make one
// more connection worth its while. It holds mu.
func (r *Router) placeWaiting() {
	for _, s := range r.servers {
		for _, p := range s.holders {
			if p.waiting.len() > 0 && !p.isGone() {
				r.serve(p) // background work, when nobody is in need any more
				r.place(p)
			}
		}
		r.dispatch(s)
	}
}

type longLease struct {
	tenant string
	age    time.Duration
	by     string
}

// longLeases are those that are older than they should be and weren't told of
// yet. It holds mu.
func (r *Router) longLeases() []longLease {
	var old []longLease
	now := time.Now()
	for _, s := range r.servers {
		for _, p := range s.holders {
			if p.lent == 0 {
				continue
			}
			for _, l := range p.leases {
				since := l.since.Load()
				if since == 0 {
					continue
				}
				age := now.Sub(time.Unix(0, since))
				if age > r.cfg.LeaseWarn && !l.warned.Swap(true) {
					old = append(old, longLease{p.id.String(), age, codeAt(l.by.Load())})
				}
			}
		}
	}
	return old
}

// codeAt names a function and where it stands.
func codeAt(pc uintptr) string {
	f := runtime.FuncForPC(pc)
	if f == nil {
		return "unknown"
	}
	file, line := f.FileLine(pc)
	return fmt.Sprintf("%s (%s:%d)", f.Name(), filepath.Base(file), line)
}
