package move_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

// A node is cut off from the catalog while a tenant moves, and still reaches the old
// server. The move waits until that node counts as dead, and goes on. From then on the
// node answers 503 with Retry-After, nothing that it does is in the old database, and
// when it can reach the catalog again it serves from the new one. At the other node no
// request fails.
func TestG4_ACutOffNodeCannotWriteToTheOldDatabase(t *testing.T) {
	t.Parallel()
	const staleServe = time.Second
	g := setup(t, staleServe)
	g.addFirst()
	whole, lonely := g.start(nil), g.start([]string{"--no-worker"}, g.cutOff)
	umbrella, key := g.tenant("umbrella")
	g.addSecond()
	g.await(whole, lonely)

	asks := begin(t, key, 60*time.Millisecond, whole)
	asks.await(g, 6)
	p := pester(t, key, lonely)
	g.until("the node that will be cut off serves", startTime, func() bool { return p.served() > 5 })

	mover := g.begin("tenant", "move", "umbrella", "--to", "pg-2", "-o", "json")
	g.until("the move is under way", startTime, func() bool {
		op := g.lastMove(umbrella)
		for _, s := range op.Steps {
			if s.Name == "replicate" && s.State == catalog.OperationDone {
				return true
			}
		}
		return op.State == catalog.OperationDone
	})
	g.way.Silence()
	cut := time.Now()
	if !pgtest.Long() {
		g.age(lonely)
	}
	switched := g.switched(umbrella, "pg-2")
	t.Logf("switched %s after the cut", switched.Sub(cut).Round(time.Millisecond))
	if dead := catalog.DeadAfter(staleServe); pgtest.Long() && switched.Sub(cut) < dead-2*time.Second {
		t.Errorf("the node was cut off for %s when the move went on, and counts as dead after %s", switched.Sub(cut), dead)
	}
	// The command may have left it to a worker.
	mover.Wait(t, commandTime)
	g.until("the move is done", commandTime, func() bool {
		op := g.lastMove(umbrella)
		if op.State == catalog.OperationFailed {
			t.Fatalf("the move has failed: %s", op.Error)
		}
		return op.State == catalog.OperationDone
	})
	asks.await(g, 6)

	kept, err := g.cat.KeptDatabases(t.Context(), catalog.KeptFilter{Tenant: umbrella.ID})
	g.ok(err)
	if len(kept) != 1 || kept[0].Server != "pg-1" {
		t.Fatalf("kept: %+v", kept)
	}
	before := g.written(g.look(kept[0].Server, kept[0].Database))
	p.refusals(g, 5, switched)
	if after := g.written(g.look(kept[0].Server, kept[0].Database)); after != before {
		t.Errorf("the old database was written: %s, then %s", before, after)
	}

	served, healed := p.served(), time.Now()
	g.way.Mend()
	g.until("the node serves again", startTime, func() bool { return p.served() > served+5 })
	p.end()
	asks.end()
	asks.unfelt(g, "umbrella", askTime)
	p.judge(g, "the node that was cut off", switched, healed)
	// What the cut-off node could not write down comes by the spool, with a visit.
	g.ok(g.cat.MarkDue(t.Context(), umbrella.ID, 0))
	g.leftBehind(umbrella, 1, g.balanced(umbrella, "pg-2", append(asks.names(), p.names()...)))
	g.done("doctor")
}

const selectWritten = `
select concat_ws(' ', (select count(*) from freehold.predictions), (select count(*) from freehold.usage_ledger),
                 (select count(*) from freehold.audit_log), (select count(*) from freehold.reservations),
                 (select xact_commit from pg_stat_database where datname = current_database()) > 0)`

// written is how much a database has.
func (g *ground) written(conn *pgx.Conn) string {
	g.Helper()
	return read[string](g, conn, selectWritten)
}

const ageNode = `update nodes set heartbeat_at = heartbeat_at - interval '1 hour' where name like '%/' || $1::int`

// age lets the time pass after which a node counts as dead.
func (g *ground) age(n *node) {
	g.Helper()
	conn, err := pgx.Connect(g.Context(), strings.TrimPrefix(g.env[0], "FREEHOLD_CATALOG_URL="))
	g.ok(err)
	defer conn.Close(context.WithoutCancel(g.Context()))
	tag, err := conn.Exec(g.Context(), ageNode, n.PID())
	g.ok(err)
	if tag.RowsAffected() == 0 {
		g.Fatalf("no node of process %d", n.PID())
	}
}

// switched waits until the catalog says that a tenant lives on a server.
func (g *ground) switched(t catalog.Tenant, server string) time.Time {
	g.Helper()
	g.until("the tenant lives on "+server, commandTime, func() bool {
		now, err := g.cat.Tenant(g.Context(), t.ID)
		g.ok(err)
		return now.Server == server
	})
	return time.Now()
}

// visit is one request to a node that may be cut off.
type visit struct {
	began     time.Time
	took      time.Duration
	status    int
	id, retry string
	text      string
	err       error
}

// pesterer sends requests to one node, whatever comes of them.
type pesterer struct {
	client http.Client
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex // guards visits
	visits []visit
}

// pester asks a node by two clients that wait for each answer, until end.
func pester(t testing.TB, token string, n *node) *pesterer {
	ctx, stop := context.WithCancel(context.Background())
	p := &pesterer{client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}}, stop: stop}
	for c := range 2 {
		p.work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				p.one(n, token, fmt.Sprintf("Sing verse %d of choir %d", i, c), i%2 == 0)
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	t.Cleanup(p.end)
	return p
}

func (p *pesterer) end() {
	p.stop()
	p.work.Wait()
	p.client.CloseIdleConnections()
}

func (p *pesterer) one(n *node, token, prompt string, stream bool) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	v := visit{began: time.Now()}
	var header http.Header
	v.status, header, v.text, v.err = post(ctx, &p.client, n, token, prompt, stream, "")
	v.took, v.retry = time.Since(v.began), header.Get("Retry-After")
	if v.err == nil && v.status == http.StatusOK {
		v.id, v.err = name(v.text, stream)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.visits = append(p.visits, v)
}

// of is how many visits are so.
func (p *pesterer) of(so func(visit) bool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.visits {
		if so(v) {
			n++
		}
	}
	return n
}

func (p *pesterer) served() int {
	return p.of(func(v visit) bool { return v.status == http.StatusOK })
}

// refusals waits until so many requests more have been refused that began after a moment.
func (p *pesterer) refusals(g *ground, more int, since time.Time) {
	g.Helper()
	refused := func() int {
		return p.of(func(v visit) bool { return v.began.After(since) && v.status == http.StatusServiceUnavailable })
	}
	from := refused()
	g.until("the node that is cut off refuses", askTime, func() bool { return refused() >= from+more })
}

// judge checks each visit: it was answered, or refused with 503 and Retry-After, and
// refused whenever it fell between the switch and the healing.
func (p *pesterer) judge(g *ground, who string, switched, healed time.Time) {
	g.Helper()
	counts, slowest := map[int]int{}, time.Duration(0)
	for _, v := range p.visits {
		counts[v.status]++
		slowest = max(slowest, v.took)
		retry, _ := strconv.Atoi(v.retry)
		switch {
		case v.err != nil:
			g.Errorf("%s, after %s: %d, %v", who, v.took, v.status, v.err)
		case v.status == http.StatusServiceUnavailable && retry > 0:
		case v.status != http.StatusOK:
			g.Errorf("%s, after %s: %d %s (Retry-After %q)", who, v.took, v.status, v.text, v.retry)
		case v.began.After(switched) && v.began.Add(v.took).Before(healed):
			g.Errorf("%s: answered %s after the switch, of which it can't know", who, v.began.Sub(switched))
		}
	}
	g.Logf("%s: %v, the slowest after %s", who, counts, slowest.Round(time.Millisecond))
}

// names are what the answers are called.
func (p *pesterer) names() (list []string) {
	for _, v := range p.visits {
		if v.id != "" {
			list = append(list, v.id)
		}
	}
	return list
}
