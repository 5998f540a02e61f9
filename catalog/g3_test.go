package catalog_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

// What G3 asks of the catalog: however nodes join, leave, give back slowly, die
// and wake up again, what they hold together is never more than the budget.
func TestG3_SharesNeverExceedTheBudget(t *testing.T) {
	t.Parallel()
	const budget = 24
	d := 1500 * time.Millisecond
	if pgtest.Long() {
		d = 30 * time.Second
	}
	b := setup(t)
	c := &crowd{bench: b, server: b.budgeted("pg-1", budget), budget: budget, end: time.Now().Add(d), all: map[string]*member{}}
	var all, watching sync.WaitGroup
	stop := make(chan struct{})
	conn := b.as("freehold_catalog")
	watching.Go(func() {
		for samples := 0; ; samples++ {
			select {
			case <-stop:
				if samples < 20 {
					t.Errorf("only %d samples", samples)
				}
				return
			default:
			}
			if sum := b.number(conn, `select coalesce(sum(granted), 0) from budget_shares`); sum > budget {
				t.Errorf("%d granted of %d", sum, budget)
				return
			}
		}
	})
	for range 5 {
		all.Go(func() {
			for time.Now().Before(c.end) && !t.Failed() {
				c.life()
			}
		})
	}
	all.Wait()
	close(stop)
	watching.Wait()
	// Whoever comes now gets all of it, but for what is kept for the next, once the
	// dead are buried.
	last := &member{crowd: c, id: newNode()}
	b.within(10*time.Second, "the whole budget", func() bool {
		last.ask(99)
		return last.share.Granted == budget-budget/10
	})
	if c.most.Load() < budget/2 || c.dropped.Load() == 0 || c.left.Load() == 0 {
		t.Errorf("too little happened: at most %d held, %d dropped, %d left", c.most.Load(), c.dropped.Load(), c.left.Load())
	}
}

const (
	crowdStale = 500 * time.Millisecond
	crowdDead  = 800 * time.Millisecond
)

// crowd is the nodes of a server and what they really hold there.
type crowd struct {
	*bench
	server        string
	budget        int
	end           time.Time
	held          atomic.Int64 // by all
	most          atomic.Int64
	lives         atomic.Int64
	dropped, left atomic.Int64

	mu  sync.Mutex // guards all
	all map[string]*member
}

// member is a node, as the router is one: it lowers what it holds before it says
// so, and takes nothing once the catalog was silent for too long.
type member struct {
	*crowd
	id string

	mu    sync.Mutex // guards all below
	share catalog.Share
	asked time.Time
	keep  int
	held  int
}

// life is a node from its first ask to its end.
func (c *crowd) life() {
	m := &member{crowd: c, id: newNode()}
	c.mu.Lock()
	c.all[m.id] = m // known before it can hold anything
	c.mu.Unlock()
	for range 10 + rand.IntN(40) {
		m.ask(rand.IntN(2 * c.budget))
		for range 3 {
			m.use()
			time.Sleep(rand.N(5 * time.Millisecond))
		}
	}
	switch c.lives.Add(1) % 3 {
	case 0: // killed: its backends end a moment later
		time.Sleep(rand.N(crowdDead))
		m.release(0)
	case 1: // falls silent for longer than it may, and wakes up
		time.Sleep(crowdDead + rand.N(crowdDead))
		m.use()
		m.release(0)
		m.ask(c.budget)
		m.use()
		m.release(0)
	default:
		m.release(0)
		if err := c.cat.LeaveShares(context.WithoutCancel(c.Context()), m.id); err != nil {
			c.Error(err)
		}
		c.left.Add(1)
	}
}

// ask tells the catalog and does with the silent what the fleet does.
func (m *member) ask(demand int) {
	m.mu.Lock()
	// Give back a little at a time.
	if over := m.keep - m.share.Target; over > 0 {
		m.keep -= 1 + rand.IntN(over)
	}
	m.lower(m.keep)
	m.asked = time.Now()
	ask := catalog.ShareAsk{Server: m.server, Cap: m.keep, Demand: demand}
	m.mu.Unlock()
	s, err := m.cat.Share(m.Context(), m.id, ask, crowdDead)
	if err != nil {
		m.Error(err)
		return
	}
	if s.Granted > ask.Cap && s.Granted > s.Target {
		m.Errorf("granted %d, kept to %d, target %d", s.Granted, ask.Cap, s.Target)
	}
	m.mu.Lock()
	m.share, m.keep = s, s.Granted
	m.lower(m.keep)
	m.mu.Unlock()
	for _, id := range s.Silent {
		m.bury(id)
	}
}

// use takes or closes some connections.
func (m *member) use() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lower(rand.IntN(m.held + 1))
	if time.Since(m.asked) > crowdStale || m.held >= m.keep {
		return
	}
	more := 1 + rand.IntN(m.keep-m.held)
	m.held += more
	now := m.crowd.held.Add(int64(more))
	m.most.Store(max(m.most.Load(), now))
	if now > int64(m.budget) {
		m.Errorf("%d connections, budget %d", now, m.budget)
	}
}

func (m *member) lower(to int) {
	if m.held > to {
		m.crowd.held.Add(int64(to - m.held))
		m.held = to
	}
}

func (m *member) release(to int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lower(to)
}

// bury drops a silent node's share when it holds nothing.
func (c *crowd) bury(id string) {
	c.mu.Lock()
	m := c.all[id]
	c.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held > 0 {
		return
	}
	done, err := c.cat.DropShare(c.Context(), c.server, id, crowdDead)
	if err != nil {
		c.Error(err)
	}
	if done {
		c.dropped.Add(1)
	}
}
