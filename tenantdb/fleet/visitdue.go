package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

const (
	// visitsAtOnce is how many tenants a worker visits at a time, and visitsAServer
	// how many of them on one server: they are from its reserve.
	visitsAtOnce  = 8
	visitsAServer = 2
	// visitRound is how long VisitDue goes on taking tenants.
	visitRound = time.Minute
	// noneFor is for how long it is taken as said that none is due elsewhere.
	noneFor = time.Second
	// spreadDaily is over what the daily visits of many tenants are spread.
	spreadDaily = 10 * time.Minute
)

// visited is how a visit ended.
type visited struct {
	due  catalog.Due
	away bool // the server can't be reached
	err  error
}

// VisitDue visits the tenants that are due, a few at a time, and returns when none is
// due any more, or after a while: what nodes have spooled, what dead ones left, the audit's seals, the
// roll-up of usage, and once a day what is kept no longer. A visit that fails is
// written down with its tenant, and made again in a minute; the error is of the
// catalog alone. Any number of processes may call it: a tenant has one visit at a
// time, and all of it can be done twice.
func (f *Fleet) VisitDue(ctx context.Context) error {
	ended := make(chan visited)
	running, at := 0, map[string]int{}
	away := map[string]bool{} // one that takes no connection is waited for once
	var failed error
	// Where none was found but on servers that are busy or away, there is none a moment
	// later: looking passes all that wait there.
	var noneBut []string
	var none time.Time
	for began := time.Now(); ; {
		var due []catalog.Due
		if failed == nil && running < visitsAtOnce && ctx.Err() == nil && time.Since(began) < visitRound {
			var without []string
			for server := range away {
				without = append(without, server)
			}
			for server, n := range at {
				if n >= visitsAServer && !away[server] {
					without = append(without, server)
				}
			}
			slices.Sort(without)
			if time.Since(none) >= noneFor || !slices.Equal(without, noneBut) {
				if due, failed = f.cat.TakeDue(ctx, 1, visitLease, without); failed != nil {
					failed = fmt.Errorf("visit tenants: %w", failed)
				}
				if len(due) == 0 {
					none, noneBut = time.Now(), without
				}
			}
		}
		for _, d := range due {
			running++
			at[d.Server]++
			go func() { ended <- f.visitOne(ctx, d) }()
		}
		if len(due) > 0 {
			continue
		}
		if running == 0 {
			return failed
		}
		v := <-ended // a visit is bounded
		running--
		at[v.due.Server]--
		if v.away {
			away[v.due.Server] = true
		}
		if failed == nil {
			failed = v.err
		}
	}
}

// visitOne visits one tenant, and writes down how that went.
func (f *Fleet) visitOne(ctx context.Context, d catalog.Due) visited {
	r, err := f.visit(ctx, d)
	_, told := errors.AsType[*refusal](err) // by a server that is there
	away := errors.Is(err, tenantdb.ErrUnavailable) && !told
	if ctx.Err() == nil && r.Error != "" {
		f.log.WarnContext(ctx, "visit failed", "tenant", d.Tenant.String(), "reason", r.Error)
	}
	if ctx.Err() != nil {
		// That this process was stopped is no failure: the next one goes on at once.
		r.Visit = catalog.Visit{Next: new(time.Duration), Cut: true}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	return visited{due: d, away: away, err: f.cat.Visited(ctx, d, r.Visit)}
}

// MarkDaily has every tenant visited that nobody has looked after for a day.
func (f *Fleet) MarkDaily(ctx context.Context) error {
	return f.cat.MarkDaily(ctx, spreadDaily)
}
