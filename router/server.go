package router

import (
	"container/heap"
	"math"
	"time"

	"freehold/catalog"
)

// maxDials bounds the connections that are being made to one server at once: a
// server answers each more slowly than the one before.
const maxDials = 4

// server is one Postgres server as this node uses it. All of it is guarded by
// Router.mu.
type server struct {
	id, name string
	budget   int // the server's, over all nodes
	share    int // this node's part
	used     int // tickets that are not given back
	dials    int // of these, in state dialing
	closing  int // of these, in state closing
	// reclaiming are idle connections on their way to be closed for another
	// tenant, before they count as closing.
	reclaiming int

	confirmed time.Time // when share was asked for last, successfully
	asked     bool      // share was told once
	peak      [2]int    // most connections wanted, in this while and the last one

	// holders are the pools that hold tickets, in no order.
	holders []*pool
	// needs are the pools that need a ticket that they may have, in the order in
	// which they get one.
	needs needs
	// vnow is the pass of whoever got a ticket last, and era counts the times that
	// somebody was in need: what was had before then is no debt.
	vnow float64
	era  int
	wake *time.Timer // looks again when an idle connection is old enough

	dialTime time.Duration // moving average of a dial with its proof
	breaker  breaker
	probing  bool // whether other connections live is being tried
	dropped  time.Time

	leases    durations // how long connections were lent
	waits     durations // how long borrowers stood in line that were served
	counts    serverCounts
	lastErr   string
	lastErrAt time.Time
}

type serverCounts struct {
	dials, dialErrors, reclaims, refusals, failovers int64
}

// server returns the server of a route, known from then on, and brings its
// budget up to the route. It holds mu.
func (r *Router) server(route catalog.Route) *server {
	s, ok := r.servers[route.ServerID]
	if !ok {
		s = &server{
			id: route.ServerID, dialTime: 10 * time.Millisecond,
			breaker: newBreaker(serverBreaker),
		}
		r.servers[route.ServerID] = s
		r.housekeep()
	}
	s.name = route.Server
	if !s.asked {
		s.budget = route.Budget // else the share's answer is newer
	}
	if r.cfg.Share == nil {
		s.share = orDefault(route.Budget, math.MaxInt32)
	} else if !s.asked {
		r.kickShares()
	}
	return s
}

// free is how many tickets may be taken now; negative when the share was lowered.
// A share that nobody has confirmed for StaleServe may be another node's by now.
func (s *server) free(r *Router) int {
	if r.cfg.Share != nil && time.Since(s.confirmed) > r.cfg.StaleServe {
		return -s.used
	}
	return s.share - s.used
}

// over is how many connections are to be closed until the share is kept.
func (s *server) over() int { return s.used - s.closing - s.reclaiming - s.share }

// take makes a ticket of the pool's. It holds mu.
func (r *Router) take(p *pool) *ticket {
	t := &ticket{pool: p}
	p.tickets[t] = struct{}{}
	p.dials++
	p.srv.used++
	p.srv.dials++
	p.srv.counts.dials++
	if p.holder < 0 {
		p.holder = len(p.srv.holders)
		p.srv.holders = append(p.srv.holders, p)
	}
	return t
}

// land makes a proven connection idle, for anybody to borrow. It holds mu.
func (r *Router) land(t *ticket) {
	if t.state != dialing {
		return
	}
	t.state = ready
	t.pool.dials--
	t.pool.srv.dials--
	t.pool.ready++
	// Its pool may have gone out of use while it was made.
	if sock := t.socket(); sock != nil && sock.shut {
		r.doom(t)
		if sock.isOver() {
			r.end(t)
		}
	}
}

// doom takes a connection out of use; its ticket lives until the server has
// closed its end. It holds mu.
func (r *Router) doom(t *ticket) {
	if t.state != ready {
		return // a dial's own end is the dial's
	}
	t.state = closing
	t.pool.ready--
	t.pool.srv.closing++
}

// end gives a ticket back. It holds mu.
func (r *Router) end(t *ticket) {
	p, s := t.pool, t.pool.srv
	switch t.state {
	case dialing:
		p.dials--
		s.dials--
	case ready:
		p.ready--
	case closing:
		s.closing--
	case ended:
		return
	}
	t.state = ended
	delete(p.tickets, t)
	s.used--
	if len(p.tickets) == 0 {
		last := len(s.holders) - 1
		s.holders[p.holder] = s.holders[last]
		s.holders[p.holder].holder = p.holder
		s.holders[last] = nil
		s.holders = s.holders[:last]
		p.holder = -1
		r.closedIf(p)
	}
	r.place(p)
	r.dispatch(s)
}

// needs is a heap of pools: whoever has a settlement waiting first, then who has no
// connection at all, then the lowest pass, then the longest wait.
type needs []*pool

var _ heap.Interface = (*needs)(nil)

func (n needs) Len() int { return len(n) }

func (n needs) Less(i, j int) bool {
	a, b := n[i], n[j]
	switch x, y := a.waiting.urgency(), b.waiting.urgency(); {
	case x != y:
		return x < y
	case (len(a.tickets) == 0) != (len(b.tickets) == 0):
		return len(a.tickets) == 0
	case a.rec.pass != b.rec.pass:
		return a.rec.pass < b.rec.pass
	}
	return a.since.Before(b.since)
}

func (n needs) Swap(i, j int) {
	n[i], n[j] = n[j], n[i]
	n[i].need, n[j].need = i, j
}

// Push implements heap.Interface.
func (n *needs) Push(x any) {
	p := x.(*pool)
	p.need = len(*n)
	*n = append(*n, p)
}

// Pop implements heap.Interface.
func (n *needs) Pop() any {
	last := len(*n) - 1
	p := (*n)[last]
	(*n)[last] = nil
	*n = (*n)[:last]
	p.need = -1
	return p
}
