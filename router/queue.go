package router

import (
	"container/heap"
	"context"
	"time"

	"freehold/tenantdb"
)

const (
	// quantum is how much more service than the neediest one a tenant may have
	// had and keep a connection that comes back, in seconds, and at least what
	// two dials cost, so that it is of use for as long as it took to make. A
	// smaller one is fairer to the request and spends more on opening connections.
	quantum = 0.020
	// certain is the wait below which nobody is refused for it.
	certain = 20 * time.Millisecond
	// slow is the least wait for which a full server makes a further connection
	// for a tenant that has one.
	slow = 100 * time.Millisecond
	// ramp is how long a tenant that has a few connections waits before it gets
	// one more: a crowd that is gone in a moment needs no more than these.
	ramp = 100 * time.Millisecond
)

// limit is how many connections the tenant may have.
func (r *Router) limit(p *pool) int { return r.cfg.ConnsPerTenant }

// weight is the tenant's part in a queue, at least 1.
func (r *Router) weight(p *pool) int {
	if r.cfg.Weight == nil {
		return 1
	}
	return max(1, r.cfg.Weight(p.route.Plan))
}

// batchLimit is how many of a tenant's connections background work may have.
func (r *Router) batchLimit(p *pool) int { return max(1, r.limit(p)/2) }

// grab lends an idle connection to a borrower that nobody is ahead of; nil when
// it has to wait. It holds mu and allocates nothing.
func (r *Router) grab(p *pool, class tenantdb.Class) *lease {
	if p.idle() == 0 || p.waiting.before(class) ||
		(class == tenantdb.Background && !r.mayBatch(p)) {
		return nil
	}
	return p.lease(class)
}

// mayBatch keeps half of a tenant's connections for those who are waited for, and
// all of a full server's.
func (r *Router) mayBatch(p *pool) bool {
	needs := p.srv.needs
	return p.batch < r.batchLimit(p) && (len(needs) == 0 || needs[0].waiting.urgency() >= len(order)-1)
}

// lease takes one of the pool's. It holds mu.
func (p *pool) lease(class tenantdb.Class) *lease {
	var l *lease
	if n := len(p.spare); n > 0 {
		l, p.spare = p.spare[n-1], p.spare[:n-1]
	} else {
		l = &lease{pool: p}
		p.leases = append(p.leases, l)
	}
	p.lent++
	l.class = class
	if class == tenantdb.Background {
		p.batch++
	}
	return l
}

// put takes a lease back and lends its connection on, to this tenant's next
// borrower or, when another tenant has waited for too long, to that. It holds mu.
func (r *Router) put(l *lease, now time.Time) {
	p := l.pool
	p.lent--
	if l.class == tenantdb.Background {
		p.batch--
	}
	p.spare = append(p.spare, l)
	p.idleAt = now
	if p.isGone() {
		return
	}
	s := p.srv
	if s.over() > 0 && p.idle() > 0 {
		r.closeIdle(p, sharedOut) // under load nothing would ever be found idle
	}
	if len(s.needs) > 0 && r.yields(p) {
		r.closeIdle(p, "gave a connection to a tenant that had waited longer")
	}
	r.serve(p)
	if p.need >= 0 || p.waiting.urgency() < len(order) {
		r.place(p)
	}
	if len(s.needs) > 0 {
		r.dispatch(s)
	}
}

// yields reports whether a connection that came back to p should go to a tenant
// that has none, or fewer for its weight also with this one, because p has had
// more than its part. It holds mu.
func (r *Router) yields(p *pool) bool {
	s, q := p.srv, p.srv.needs[0]
	p.rec.enter(s)
	// One after the other, because what is being closed counts as p's still.
	fewer := len(q.tickets) == 0 || (s.reclaiming+s.closing == 0 &&
		(len(q.tickets)+1)*r.weight(p) <= (len(p.tickets)-1)*r.weight(q))
	return q != p && fewer && p.idle() > 0 && s.free(r) <= 0 &&
		s.reclaiming+s.closing < min(len(s.needs), maxDials) &&
		p.rec.pass > q.rec.pass+max(quantum, 2*s.dialTime.Seconds()) &&
		// Only where the usual way, by an idle connection, leads nowhere.
		time.Since(q.since) > 4*max(youngest, s.dialTime) && r.victim(q) == nil
}

// serve lends what is idle to the pool's borrowers, in their order. It holds mu.
func (r *Router) serve(p *pool) {
	for p.idle() > 0 {
		w := r.next(p)
		if w == nil {
			return
		}
		p.waiting.line(w.class).leave(w)
		p.srv.waits.add(time.Since(w.at))
		w.lease = p.lease(w.class)
		close(w.ready)
	}
}

// next is the borrower that gets the next connection. It holds mu.
func (r *Router) next(p *pool) *waiter {
	for _, class := range order {
		w := p.waiting.line(class).first
		if w != nil && (class != tenantdb.Background || r.mayBatch(p)) {
			return w
		}
	}
	return nil
}

// refuse ends the waiting of all of a pool's borrowers. It holds mu.
func (r *Router) refuse(p *pool, err error) {
	for i := range p.waiting {
		for w := p.waiting[i].first; w != nil; w = p.waiting[i].first {
			p.waiting[i].leave(w)
			w.err = err
			close(w.ready)
		}
	}
	r.place(p)
}

// wants reports whether one more connection should be made for the pool. The
// first is always worth it. Later ones are while there are tickets in plenty;
// beyond that, only if the queue is longer than a dial. It holds mu.
func (r *Router) wants(p *pool) bool {
	n := p.waiting.len()
	if n <= p.dials || len(p.tickets) >= r.limit(p) || p.isGone() {
		return false
	}
	if p.ready+p.dials == 0 {
		return true
	}
	if p.waiting.urgency() == len(order)-1 {
		// Background work alone leaves the last fifth to those who are waited for.
		return p.batch+p.idle()+p.dials < r.batchLimit(p) && p.srv.free(r) > p.srv.share/5
	}
	if time.Now().Before(p.calm) {
		return false
	}
	// The last eighth is for tenants that have none: what becomes free on a full
	// server was closed for one of these.
	if p.srv.free(r) > p.srv.share/8 {
		return true
	}
	// A tenant whose leases were short may have one out that isn't.
	lease := max(p.rec.lease, p.oldestLease(time.Now()))
	// What a dial costs the server, its processors above all, is more than the
	// time it takes.
	return lease*time.Duration(n)/time.Duration(max(1, p.ready)) > max(4*p.srv.dialTime, slow)
}

// place puts the pool where it belongs among those in need. It holds mu.
func (r *Router) place(p *pool) {
	s := p.srv
	switch wants := r.wants(p); {
	case wants && p.need < 0:
		if len(s.needs) == 0 {
			// Nobody was in need: a new beginning for all.
			s.era++
			s.vnow = 0
		}
		p.since = time.Now()
		p.rec.enter(s)
		heap.Push(&s.needs, p)
	case wants:
		heap.Fix(&s.needs, p.need)
	case p.need >= 0:
		heap.Remove(&s.needs, p.need)
	}
}

// dispatch makes connections for those in need, in their order, as far as there
// are tickets; when there are none it has one idle connection of another tenant
// closed for each. It holds mu.
func (r *Router) dispatch(s *server) {
	for len(s.needs) > 0 && s.dials < maxDials && !r.closed {
		p := s.needs[0]
		switch {
		case !r.wants(p):
			r.place(p)
		case s.free(r) > 0:
			r.dial(p)
		case s.used+s.free(r) <= 0:
			return // nothing is this node's, whatever were closed
		case s.reclaiming+s.closing >= min(len(s.needs), maxDials):
			return // as many as can be used are on their way
		case !r.reclaim(p):
			r.lookLater(s)
			return
		}
	}
}

// join puts a borrower into its tenant's line, or refuses it when its wait would
// be in vain. It holds mu.
func (r *Router) join(ctx context.Context, p *pool, class tenantdb.Class) (*waiter, error) {
	now := time.Now()
	if class != tenantdb.Settle {
		if err := r.broken(p); err != nil {
			return nil, err
		}
		expected := r.expect(p)
		left := r.cfg.QueueWait
		if deadline, ok := ctx.Deadline(); ok {
			left = min(left, deadline.Sub(now))
		}
		if expected > certain && expected > left && !p.first() {
			p.srv.counts.refusals++
			return nil, r.busy(p, expected, "the wait would outlast the request")
		}
	}
	w := &waiter{class: class, at: now, ready: make(chan struct{})}
	p.waiting.line(class).join(w)
	r.place(p)
	r.dispatch(p.srv)
	return w, nil
}

// first reports whether a borrower that joins now has nobody ahead, and nothing is
// under way that would tell how quick the server is. It isn't refused for what the
// last dial took: a slow one would else be the last for good, with nobody to find
// out that the server is quick again. It holds mu.
func (p *pool) first() bool {
	return p.ready+p.dials+p.waiting.len() == 0 && p.srv.dials+len(p.srv.needs) == 0
}

// expect is how long a borrower that joins now would wait, from what leases and
// dials have taken lately. It holds mu.
func (r *Router) expect(p *pool) time.Duration {
	ahead := time.Duration(p.waiting.len() + 1)
	s := p.srv
	if p.ready > 0 {
		return p.rec.lease * ahead / time.Duration(max(p.ready, 1))
	}
	if p.dials > 0 || s.free(r) > 0 {
		return s.dialTime + p.rec.lease*(ahead-1)/time.Duration(r.limit(p))
	}
	// One dial and one reclaim for each that is in need before this one.
	return s.dialTime * time.Duration(len(s.needs)+1) * 2 / maxDials
}

// await waits for the lease that w stands in line for.
func (r *Router) await(ctx context.Context, p *pool, w *waiter) (*lease, error) {
	var patience <-chan time.Time
	if w.class != tenantdb.Settle {
		timer := time.NewTimer(r.cfg.QueueWait)
		defer timer.Stop()
		patience = timer.C
	}
	select {
	case <-w.ready:
		return w.lease, w.err
	case <-patience:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-w.ready:
		if w.lease != nil && ctx.Err() != nil {
			r.put(w.lease, time.Now())
			return nil, waitError(ctx, ErrBusy)
		}
		return w.lease, w.err
	default:
	}
	p.waiting.line(w.class).leave(w)
	r.place(p)
	err := r.busy(p, r.expect(p), "no connection became free in time")
	if p.dials > 0 && p.ready == 0 {
		err = tenantdb.ErrUnavailable // it is the database that didn't answer
	} else {
		p.srv.counts.refusals++
	}
	if ctx.Err() != nil {
		return nil, waitError(ctx, err)
	}
	return nil, err
}
