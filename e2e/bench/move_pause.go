package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

const (
	movedRate  = 100.0 // requests a second that the moving tenant is asked, open loop
	movedNodes = 2     // by which it is served, in turn
	// moveTries is how often an operation is gone on with that was put off: what its
	// pauses cost who asks is in the slowest request.
	moveTries = 3
)

// movePause moves a large tenant and a small one there and back, in turns, each while
// it is asked for by what two nodes serve.
func movePause(ctx context.Context, b *bench) error {
	defer b.fewRounds()()
	d, err := openDocks(ctx, b, 2, movedNodes)
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.logStatements(ctx); err != nil {
		return err
	}
	w := &wharf{docks: d, client: newCaller(), failed: make([]float64, b.opt.rounds), lost: make([]float64, b.opt.rounds)}
	defer w.client.CloseIdleConnections()
	var vessels []*vessel
	for _, v := range []*vessel{{name: "large"}, {name: "small"}} {
		mb := float64(b.opt.mb)
		if v.name == "small" {
			mb /= smallPart
		}
		if v.customer, err = d.dockTenant(ctx, b, v.name, mb); err != nil {
			return err
		}
		// Its pools open, and what is called for the first time is.
		if t, _ := open(ctx, movedRate, askedAtOnce, b.opt.slot, 1, w.asks(v, "warm-"+v.name)); t.failed > 0 {
			return fmt.Errorf("requests failed: %w", t.err)
		}
		vessels = append(vessels, v)
	}
	large, small := w.moved(b, vessels[0]), w.moved(b, vessels[1])
	if err := b.play(ctx, "pause", large, small); err != nil {
		return err
	}
	felt := vessels[0].felt
	worse := make([]float64, len(large.rounds))
	for i := range worse {
		worse[i] = max(large.rounds[i], felt[i])
	}
	return errors.Join(
		b.emitWorst("move_failed", "requests", atMost(0), w.failed, fmt.Sprintf("of %d", w.asked)),
		b.emitWorst("move_lost", "requests", atMost(0), w.lost, fmt.Sprintf("of %d answered", w.answered)),
		b.write("move_pause_p99_ms", "ms", atMost(2000), quantile(worse, 0.99), worse, fmt.Sprintf(
			"of a pause %s ms, of the slowest request %s ms; a move takes %s s",
			figure(median(large.rounds)), figure(median(felt)), figure(median(vessels[0].took)))),
		b.emit("pause_growth", "ratio", atMost(1.5), ratios(large.rounds, small.rounds), fmt.Sprintf(
			"%s ms / %s ms", figure(median(large.rounds)), figure(median(small.rounds)))),
	)
}

// wharf is where tenants are moved while they are asked.
type wharf struct {
	*docks
	client          *http.Client
	failed, lost    []float64 // by round
	asked, answered int64
}

// vessel is a tenant that moves.
type vessel struct {
	customer
	name string
	felt []float64 // of the slowest request, in ms, by round
	took []float64 // of the whole move, in seconds, by round

	mu        sync.Mutex // guards what follows
	ids       []string   // of requests that were answered
	slowest   time.Duration
	slowestAt time.Time // when that was asked
}

// asks is an op: the nodes are asked in turn. What is answered is noted.
func (w *wharf) asks(v *vessel, prefix string) op {
	body := askedBody(askedPrompt, false)
	return func(ctx context.Context, _, i int) error {
		id := fmt.Sprintf("%s-%d", prefix, i)
		began := time.Now()
		err := w.ask(ctx, w.nodes[i%len(w.nodes)].API, v.token, id, body)
		took := time.Since(began)
		v.mu.Lock()
		defer v.mu.Unlock()
		if took > v.slowest {
			v.slowest, v.slowestAt = took, began
		}
		if err == nil {
			v.ids = append(v.ids, id)
		}
		return err
	}
}

// ask posts a chat request under an id.
func (w *wharf) ask(ctx context.Context, url, token, id string, body []byte) error {
	req, err := newAsk(ctx, url+"/v1", token, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Request-Id", id)
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d: %s", res.StatusCode, text)
	case res.Header.Get("X-Request-Id") != id:
		return fmt.Errorf("%s was answered as %s", id, res.Header.Get("X-Request-Id"))
	}
	return nil
}

// moved is a side whose turn is a move to the other server, with some of the load
// before and after it. It returns how long nobody was served, in milliseconds.
func (w *wharf) moved(b *bench, v *vessel) *side {
	return &side{name: v.name, turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		if err := w.calm(ctx); err != nil {
			return 0, err
		}
		from, err := w.where(ctx, v.ID)
		if err != nil {
			return 0, err
		}
		v.ids, v.slowest = nil, 0
		for _, l := range w.logs {
			l.mark()
		}
		var (
			t         tally
			latencies []time.Duration
			asking    sync.WaitGroup
		)
		// The end of the move is that of the load; who has asked is answered.
		during, end := context.WithCancel(ctx)
		defer end()
		prefix := fmt.Sprintf("%s-%d", v.name, round)
		asking.Go(func() {
			asks := w.asks(v, prefix)
			t, latencies = open(during, movedRate, int(movedRate*askTime.Seconds()), time.Hour, uint64(round), func(_ context.Context, caller, i int) error {
				return asks(ctx, caller, i)
			})
		})
		time.Sleep(d)
		began := time.Now()
		o, err := w.move(ctx, v.ID, quayName(1-from))
		took := time.Since(began)
		time.Sleep(d)
		end()
		asking.Wait()
		if err != nil {
			return 0, err
		}
		lost, err := w.missing(ctx, v, 1-from, prefix)
		if err != nil {
			return 0, err
		}
		pause, err := pauseOf(o)
		if err != nil {
			return 0, err
		}
		slowest := float64(v.slowest) / float64(time.Millisecond) // also of one that failed
		if len(latencies) > 0 {
			slowest = max(slowest, float64(slices.Max(latencies))/float64(time.Millisecond))
		}
		b.progress("  %s: pause %d ms, slowest request %.0f ms (of step %s), p99 %.0f ms; %d asked, %d failed, %d lost; %s",
			v.name, pause.Milliseconds(), slowest, stepAt(o, v.slowestAt), p99(latencies), t.done+t.failed, t.failed, lost, stepTimes(o))
		if t.failed > 0 {
			b.progress("  a request failed: %v", t.err)
		}
		w.tellPause(b, o, pause)
		w.failed[round] += float64(t.failed)
		w.lost[round] += float64(lost)
		w.asked, w.answered = w.asked+t.done+t.failed, w.answered+t.done
		v.felt, v.took = append(v.felt, slowest), append(v.took, took.Seconds())
		return float64(pause) / float64(time.Millisecond), nil
	}}
}

// move moves a tenant, as a worker would: what was put off is gone on with.
func (d *docks) move(ctx context.Context, id catalog.TenantID, to string) (catalog.Operation, error) {
	o, err := d.fleet.BeginMove(ctx, id, fleet.MoveOptions{To: to, Way: fleet.ByReplication, Actor: "bench"})
	if err != nil {
		return o, err
	}
	for try := 1; ; try++ {
		err := d.fleet.Do(ctx, o.ID)
		if err == nil {
			break
		}
		if try == moveTries || ctx.Err() != nil {
			return o, err
		}
		time.Sleep(time.Second)
	}
	o, err = d.cat.Operation(ctx, o.ID)
	if err == nil && o.State != catalog.OperationDone {
		err = fmt.Errorf("%w: the operation is %s", errNotMoved, o.State)
	}
	return o, err
}

// pauseOf is how long nobody was served, by what the move noted.
func pauseOf(o catalog.Operation) (time.Duration, error) {
	notes, err := o.Notes()
	if err != nil {
		return 0, err
	}
	var ms int64
	if err := json.Unmarshal(notes["pause_ms"], &ms); err != nil {
		return 0, fmt.Errorf("read the pause: %w", err)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// stepTimes is how long each step took.
func stepTimes(o catalog.Operation) (text string) {
	for _, s := range o.Steps {
		if s.Millis != nil {
			text += fmt.Sprintf(" %s %.1f s", s.Name, float64(*s.Millis)/1000)
		}
	}
	return text
}

// stepAt is the step that was under way.
func stepAt(o catalog.Operation, at time.Time) string {
	name := "none"
	for _, s := range o.Steps {
		if s.StartedAt != nil && s.StartedAt.Before(at) {
			name = s.Name
		}
	}
	return name
}

// countMissing is how many of the requests don't have exactly one prediction that
// succeeded and one row of the ledger. They are of the last hour.
const countMissing = `
with floor as (select freehold.uuid7_floor(now() - interval '1 hour') as id),
  p as (select p.request_id, count(*) as n, count(*) filter (where p.state = 'succeeded') as good
          from freehold.predictions p where p.id >= (select f.id from floor f) group by 1),
  l as (select l.request_id, count(*) as n from freehold.usage_ledger l where l.id >= (select f.id from floor f) group by 1)
select count(*) from unnest($1::text[]) as a (id)
  left join p on p.request_id = a.id
  left join l on l.request_id = a.id
 where (p.n = 1 and p.good = 1 and l.n = 1) is not true`

// missing counts what a tenant was answered and hasn't written down, where it lives now.
func (w *wharf) missing(ctx context.Context, v *vessel, quay int, prefix string) (n int64, err error) {
	conn, err := pgx.Connect(ctx, w.quays[quay].server.URL(v.Database))
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.ids) == 0 {
		return 0, errors.New("nothing was answered during " + prefix)
	}
	err = conn.QueryRow(ctx, countMissing, v.ids).Scan(&n)
	return n, err
}
