package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	stormNodes    = 4
	stormRequests = 1000
	stormRoom     = 0.75 // of the requests have room in the month, by what they use
	stormTime     = 4 * time.Second
)

// granted has four processes serve a thousand requests at once of a tenant whose
// month has room for three in four, while two of the four are killed. What
// was granted beyond the limit is read in the tenant's database all along, and held
// against what the engine says that it was asked for.
func (e *estate) granted(ctx context.Context, b *bench) error {
	d, err := e.openDomain(ctx, "freehold_granted", e.address())
	if err != nil {
		return err
	}
	nodes := make([]*serving, stormNodes)
	defer func() {
		for _, n := range nodes {
			if n != nil {
				n.kill()
			}
		}
	}()
	caller := newCaller()
	defer caller.CloseIdleConnections()
	var seen storm
	over := &side{name: "tokens over", turn: func(ctx context.Context, round int, _ time.Duration) (float64, error) {
		for i, n := range nodes {
			if n != nil {
				continue
			}
			var err error
			if nodes[i], err = e.serve(ctx, d); err != nil {
				return 0, err
			}
		}
		// A tenant for each round: nothing of its month is used.
		limit := int64(stormRoom * stormRequests * float64(len(strings.Fields(askedPrompt))+mockWords))
		who, err := d.customer(ctx, fmt.Sprintf("storm-%03d", round), limit, 2*stormRequests)
		if err != nil {
			return 0, err
		}
		return e.storm(ctx, d, nodes, caller, who, limit, &seen)
	}}
	if err := b.play(ctx, "granted", over); err != nil {
		return err
	}
	return b.emitWorst("overgranted_tokens", "tokens", atMost(0), over.rounds, fmt.Sprintf(
		"of %d requests %d were answered, %d refused to the end, %d lost; %d processes killed; %d looks",
		seen.answered+seen.refused+seen.lost, seen.answered, seen.refused, seen.lost, seen.killed, seen.looks))
}

// storm counts what became of the requests.
type storm struct{ answered, refused, lost, killed, looks int }

// countGranted is what stands above the limit at this moment: in the counters, and
// by the rows that they must agree with.
const countGranted = `
select greatest(0, max(c.used + c.reserved) - $1,
           (select coalesce(sum(l.prompt_tokens + l.completion_tokens), 0) from freehold.usage_ledger l)
         + (select coalesce(sum(r.tokens), 0) from freehold.reservations r) - $1)::bigint
  from freehold.tenant_counters c`

func (e *estate) storm(ctx context.Context, d *domain, nodes []*serving, caller *http.Client, who customer, limit int64, seen *storm) (float64, error) {
	route, err := d.cat.Route(ctx, who.ID)
	if err != nil {
		return 0, err
	}
	cfg, err := e.adminConfig(route.Config.Database)
	if err != nil {
		return 0, err
	}
	used := e.mock.Used().TotalTokens
	var over int64
	err = e.asOwner(ctx, cfg, func(look looker) error {
		watch := sample(2*time.Millisecond, func() (n int64, err error) {
			seen.looks++
			err = look(countGranted, limit).Scan(&n)
			if errors.Is(err, pgx.ErrNoRows) {
				err = nil
			}
			return n, err
		})
		e.askAll(ctx, nodes, caller, who, seen)
		var err error
		over, err = watch.end()
		return err
	})
	if err != nil {
		return 0, err
	}
	over = max(over, e.mock.Used().TotalTokens-used-limit)
	return float64(over), ctx.Err()
}

// askAll sends all requests at once, to the nodes in turn, and kills two of these
// meanwhile. Who isn't answered asks another node again, for a while.
func (e *estate) askAll(ctx context.Context, nodes []*serving, caller *http.Client, who customer, seen *storm) {
	var (
		mu  sync.Mutex // guards seen
		all sync.WaitGroup
	)
	urls := make([]string, len(nodes))
	for i, n := range nodes {
		urls[i] = n.API + "/v1"
	}
	body := askedBody(askedPrompt, false)
	end := time.Now().Add(stormTime)
	for i := range stormRequests {
		all.Go(func() {
			var status int
			var err error
			for try := i; ; try++ {
				status, _, err = ask(ctx, caller, urls[try%len(urls)], who.token, body)
				if err == nil && status == http.StatusOK || time.Now().After(end) || ctx.Err() != nil {
					break
				}
				time.Sleep(stormTime/8 + rand.N(stormTime/8))
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil || status >= http.StatusInternalServerError:
				seen.lost++
			case status == http.StatusOK:
				seen.answered++
			default:
				seen.refused++
			}
		})
	}
	for _, victim := range rand.Perm(len(nodes))[:2] {
		time.Sleep(mockDelay + rand.N(8*mockDelay))
		nodes[victim].kill()
		nodes[victim] = nil
		seen.killed++
	}
	all.Wait()
}
