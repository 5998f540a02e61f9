package move_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

// A tenant moves to another server while it is asked at two nodes, and a neighbour is
// too: nobody's request fails, and each answer is in the books of the new server, once.
// The long form moves it there and back, and kills who does it in the middle of the pause.
func TestG6_AMoveIsNotFelt(t *testing.T) {
	t.Parallel()
	g := setup(t, time.Minute)
	g.addFirst()
	first, second := g.start(nil), g.start([]string{"--no-worker"})
	acme, acmeKey := g.tenant("acme")
	globex, globexKey := g.tenant("globex")
	g.addSecond()
	g.await(first, second)

	asks := begin(t, acmeKey, 40*time.Millisecond, first, second)
	neighbour := begin(t, globexKey, 120*time.Millisecond, second, first)
	asks.await(g, 12)
	before := g.used(first, acmeKey)
	// rounds are the moves; each leaves a database behind.
	rounds := 1
	t.Logf("paused for %s", g.move("acme", "pg-2"))
	asks.await(g, 12)
	if pgtest.Long() {
		t.Logf("and back: paused for %s", g.move("acme", "pg-1"))
		asks.await(g, 12)
		rounds += 1 + g.moveKilled(acme)
		asks.await(g, 12)
	}
	if after := g.used(second, acmeKey); after <= before {
		t.Errorf("%d tokens were used before, %d after", before, after)
	}
	asks.end()
	neighbour.end()

	asks.unfelt(g, "acme", askTime)
	// What a machine does that is busy with two servers and a move, not what a pause is.
	neighbour.unfelt(g, "globex", 8*time.Second)
	now, err := g.cat.Tenant(t.Context(), acme.ID)
	g.ok(err)
	if now.State != catalog.Active || (rounds == 1 && now.Server != "pg-2") {
		t.Errorf("acme is %s on %s", now.State, now.Server)
	}
	g.leftBehind(acme, rounds, g.balanced(acme, now.Server, asks.names()))
	g.balanced(globex, "pg-1", neighbour.names())
	g.leftBehind(globex, 0, booked{})
	g.done("audit", "verify", "acme")
	g.done("doctor")
}

// moveKilled moves a tenant to and fro until who does it was killed in the pause, and a
// worker has ended the move. It returns how often the tenant moved.
func (g *ground) moveKilled(t catalog.Tenant) (moves int) {
	g.Helper()
	const tries = 4
	for moves < tries {
		now, err := g.cat.Tenant(g.Context(), t.ID)
		g.ok(err)
		to := map[string]string{"pg-1": "pg-2", "pg-2": "pg-1"}[now.Server]
		mover := g.begin("tenant", "move", t.Slug, "--to", to)
		g.until("the tenant is paused, or has moved", commandTime, func() bool {
			now, err := g.cat.Tenant(g.Context(), t.ID)
			g.ok(err)
			return now.State == catalog.Moving || now.Server == to
		})
		mover.Kill()
		<-mover.Done()
		moves++
		var op catalog.Operation
		g.until("a worker has ended the move", commandTime, func() bool {
			op = g.lastMove(t)
			return op.State == catalog.OperationDone || op.State == catalog.OperationFailed
		})
		now, err = g.cat.Tenant(g.Context(), t.ID)
		g.ok(err)
		if op.State != catalog.OperationDone || now.State != catalog.Active || now.Server != to {
			g.Fatalf("the move is %s (%s), the tenant %s on %s", op.State, op.Error, now.State, now.Server)
		}
		if op.Attempts > 1 {
			return moves
		}
	}
	g.Errorf("of %d moves none was killed before its end", tries)
	return moves
}

// lastMove is the newest move of a tenant.
func (g *ground) lastMove(t catalog.Tenant) catalog.Operation {
	g.Helper()
	list, err := g.cat.Operations(g.Context(), catalog.OperationFilter{Tenant: t.Slug, Kind: catalog.KindMove})
	g.ok(err)
	if len(list) == 0 {
		return catalog.Operation{}
	}
	return list[0]
}

// used is how many tokens a tenant has used this month, as it is told.
func (g *ground) used(n *node, token string) int64 {
	g.Helper()
	req, err := http.NewRequestWithContext(g.Context(), http.MethodGet, n.api+"/v1/usage", http.NoBody)
	g.ok(err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	g.ok(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	g.ok(err)
	var u struct {
		Total struct {
			TotalTokens int64 `json:"total_tokens"`
		}
	}
	if err := json.Unmarshal(text, &u); err != nil || res.StatusCode != http.StatusOK {
		g.Fatalf("usage: %d %s %v", res.StatusCode, text, err)
	}
	return u.Total.TotalTokens
}
