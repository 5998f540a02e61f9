package limits_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/e2e/mockengine"
)

// storm is clients that go on asking, and what became of it.
type storm struct {
	*ground
	*asker
	prompt prompt
	stop   context.CancelFunc
	all    sync.WaitGroup

	answered, lost, busy, spent atomic.Int64
}

// begin has so many clients ask all nodes, each again after a pause.
func (g *ground) begin(token string, clients int, p prompt) *storm {
	ctx, stop := context.WithCancel(g.Context())
	s := &storm{ground: g, asker: newAsker(token), prompt: p, stop: stop}
	for range clients {
		s.all.Go(func() {
			for ctx.Err() == nil {
				s.judge(s.ask(context.WithoutCancel(ctx), g.at(rand.Int()), p))
				time.Sleep(10*time.Millisecond + rand.N(40*time.Millisecond))
			}
		})
	}
	g.Cleanup(s.end)
	return s
}

// end returns when every client has its last answer.
func (s *storm) end() {
	s.stop()
	s.all.Wait()
	s.CloseIdleConnections()
}

// judge counts an answer, and says which must not be.
func (s *storm) judge(a answer) {
	after, again := a.header.Get("Retry-After"), a.header.Get("X-Should-Retry")
	switch {
	case a.status == http.StatusOK:
		s.answered.Add(1)
	case a.status == 0 || a.status == http.StatusServiceUnavailable: // its node was killed, or has just begun
		s.lost.Add(1)
	case a.status == http.StatusTooManyRequests && a.code == "rate_limit_exceeded":
		s.busy.Add(1)
		if after == "" || again == "false" {
			s.Errorf("no slot is free: Retry-After %q, x-should-retry %q", after, again)
		}
	case a.status == http.StatusTooManyRequests && a.code == "insufficient_quota":
		s.spent.Add(1)
		if after != "" || again != "false" {
			s.Errorf("the month is spent: Retry-After %q, x-should-retry %q", after, again)
		}
	default:
		s.Errorf("answered %d %s", a.status, a.code)
	}
}

// watch looks at the accounts all the time, and says when they are beyond the
// limits. It returns how often it looked.
func (b *book) watch(limit *atomic.Int64, slots int64) (stop func() int) {
	ctx, cancel := context.WithCancel(b.Context())
	looks := make(chan int, 1)
	go func() {
		n := 0
		defer func() { looks <- n }()
		for ; ctx.Err() == nil; n++ {
			a, err := b.account()
			if err != nil {
				b.Errorf("look: %v", err)
				return
			}
			most := limit.Load()
			if a.used+a.reserved > most || a.billed+a.granted > most || a.inFlight > slots || a.slots > slots {
				b.Errorf("granted beyond %d tokens and %d slots: %+v", most, slots, a)
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	return func() int {
		cancel()
		return <-looks
	}
}

// Four processes serve a tenant, with more callers than it has slots, and a month
// that isn't enough for all. Some are killed with requests in flight. At no moment
// is more granted than the limits say, by the database, by its rows and by what the
// engine sees; what the dead had taken comes back.
func TestG9_LimitsHoldOverKilledProcesses(t *testing.T) {
	t.Parallel()
	const slots = 10
	var limit atomic.Int64
	limit.Store(long[int64](6_000, 60_000))
	g := setup(t, mockengine.Config{Delay: 30 * time.Millisecond, Words: 30, Stubborn: true}, 4)
	acme, token := g.tenant("acme", limit.Load(), slots)
	b := g.open(acme)
	stop := b.watch(&limit, slots)

	p := prompt{text: "What shall we sing in the great hall tonight, and who will listen?", most: 30}
	s := g.begin(token, 24, p)
	var dead []int
	for range long(2, 6) {
		g.until("requests are in flight", startTime, func() bool { now, _ := g.mock.Busy(); return now > slots/3 || s.spent.Load() > 0 })
		dead = append(dead, g.kill(1+rand.IntN(len(g.nodes)-1)))
	}
	g.until("the month is spent", startTime, func() bool { return s.spent.Load() > 0 })
	s.end()
	before, err := b.account()
	g.ok(err)
	// What is reserved is of the dead alone now: nobody else asks.
	if before.reserved != before.granted || before.used != before.billed {
		t.Errorf("the counters don't agree with the rows: %+v", before)
	}

	// The month is enlarged; the dead have slots still, until they count as dead.
	limit.Store(1e9)
	enough := limit.Load()
	_, err = g.fleet.PatchConfig(t.Context(), acme.ID, catalog.ConfigPatch{MonthlyTokenLimit: &enough})
	g.ok(err)
	b.outlast(dead)
	g.until("every slot is there again", settleTime, func() bool { return g.together(s, slots) })

	after := b.settled()
	// Doubt consumes the limit: all that the dead had been granted.
	if after.used != after.billed+before.granted {
		t.Errorf("used %d, billed %d, and %d were granted to the dead", after.used, after.billed, before.granted)
	}
	if used := g.mock.Used().TotalTokens; used < after.billed || used > after.used {
		t.Errorf("the engine counts %d tokens: %+v", used, after)
	}
	if _, most := g.mock.Busy(); most > slots || most < slots/2 {
		t.Errorf("the engine had up to %d requests at a time, of %d", most, slots)
	}
	looks := stop()
	t.Logf("%d answered, %d busy, %d spent, %d lost with %d processes; %d looks; %d tokens of the dead",
		s.answered.Load(), s.busy.Load(), s.spent.Load(), s.lost.Load(), len(dead), looks, before.granted)
	if s.answered.Load() == 0 || s.busy.Load() == 0 || looks < 20 {
		t.Error("the storm was none")
	}
}

// together asks for so many slots at once, and reports whether there were as many.
func (g *ground) together(s *storm, slots int) bool {
	var all sync.WaitGroup
	var got atomic.Int64
	for i := range slots {
		all.Go(func() {
			if s.ask(g.Context(), g.at(i), s.prompt).status == http.StatusOK {
				got.Add(1)
			}
		})
	}
	all.Wait()
	return got.Load() == int64(slots)
}
