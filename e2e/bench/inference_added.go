package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// askedTenants share the requests evenly.
const askedTenants = 10

// meter collects what a side's turns show.
type meter struct {
	p50, p99 []float64 // ms
	cpu      []float64 // ms of the node's process, for each second of the turn
	rate     []float64 // answered requests for each second of the turn
}

// added sets what Freehold adds to the engine's time, with everything on, beside
// two raw round trips that write the same rows, and its processor time beside a
// bare proxy's in the same process.
func (e *estate) added(ctx context.Context, b *bench) error {
	d, err := e.openDomain(ctx, "freehold_added", e.address())
	if err != nil {
		return err
	}
	served, err := d.customers(ctx, "served", askedTenants)
	if err != nil {
		return err
	}
	// The floor has tenants that no node serves: nothing but it touches them.
	floor, err := e.openFloor(ctx, d, askedTenants)
	if err != nil {
		return err
	}
	defer floor.close()
	node, err := e.serve(ctx, d)
	if err != nil {
		return err
	}
	defer node.kill()
	caller := newCaller()
	defer caller.CloseIdleConnections()
	if err := e.everythingOn(ctx, d, node, caller, served[0]); err != nil {
		return fmt.Errorf("not everything is on: %w", err)
	}

	body := askedBody(askedPrompt, false)
	through := func(url string) op {
		return func(ctx context.Context, _, i int) error {
			return answered(ctx, caller, url, served[i%askedTenants].token, body)
		}
	}
	var freehold, bare, direct, raw, idle meter
	sides := []*side{
		loaded("freehold", &freehold, node, through(node.API+"/v1")),
		loaded("bare proxy", &bare, node, through(node.Bare)),
		loaded("the engine itself", &direct, node, through(e.mock.URL())),
		loaded("two raw round trips", &raw, node, floor.write),
		{name: "idle", turn: func(ctx context.Context, _ int, d time.Duration) (float64, error) {
			return 0, idle.watch(node, func() (int64, error) { return 0, rest(ctx, d) })
		}},
	}
	for _, s := range sides { // opens what there is to open
		if _, err := s.turn(ctx, -1, b.opt.slot/2); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	freehold, bare, direct, raw, idle = meter{}, meter{}, meter{}, meter{}, meter{}
	if err := b.play(ctx, "added", sides...); err != nil {
		return err
	}
	p50, p99 := less(freehold.p50, direct.p50), less(freehold.p99, direct.p99)
	mine, theirs := each(freehold, idle), each(bare, idle)
	b.progress("  p50 ms: freehold %s, bare proxy %s, the engine itself %s", figure(median(freehold.p50)),
		figure(median(bare.p50)), figure(median(direct.p50)))
	b.progress("  idle, the node's process uses %s ms of processor a second", figure(median(idle.cpu)))
	return errors.Join(
		b.emit("added_vs_floor", "ratio", atMost(1.5), ratios(p50, raw.p50),
			fmt.Sprintf("p50 %s / %s ms", figure(median(p50)), figure(median(raw.p50)))),
		b.emit("added_p50_ms", "ms", atMost(3), p50, ""),
		b.emit("added_p99_ms", "ms", atMost(15), p99, fmt.Sprintf("p99 of the floor %s ms", figure(median(raw.p99)))),
		b.emit("cpu_vs_bare", "ratio", atMost(4), ratios(mine, theirs),
			fmt.Sprintf("%s / %s ms a request, less what it uses idle", figure(median(mine)), figure(median(theirs)))),
	)
}

// loaded is a side of requests at the asked rate, none of which may fail; its
// figure is their p50 in ms.
func loaded(name string, m *meter, node *serving, ask op) *side {
	return &side{name: name, turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		var p50 float64
		err := m.watch(node, func() (int64, error) {
			t, latencies := open(ctx, askedRate, askedAtOnce, d, uint64(round+1), ask)
			if _, err := t.whole(); err != nil {
				return 0, err
			}
			ms := milliseconds(latencies)
			p50 = median(ms)
			m.p50, m.p99 = append(m.p50, p50), append(m.p99, quantile(ms, 0.99))
			return t.done, nil
		})
		return p50, err
	}}
}

// watch notes what the node's process uses while something goes on.
func (m *meter) watch(node *serving, work func() (done int64, err error)) error {
	before, err := node.processor()
	if err != nil {
		return err
	}
	began := time.Now()
	done, err := work()
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	after, err := node.processor()
	m.cpu = append(m.cpu, milliseconds([]time.Duration{after - before})[0]/took)
	m.rate = append(m.rate, float64(done)/took)
	return err
}

// each is the processor time of a request, in ms, without what is used idle.
func each(m, idle meter) []float64 {
	out := less(m.cpu, idle.cpu)
	for i := range out {
		out[i] /= m.rate[i]
	}
	return out
}

// less subtracts round by round.
func less(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}

func milliseconds(list []time.Duration) []float64 {
	out := make([]float64, len(list))
	for i, d := range list {
		out[i] = float64(d) / float64(time.Millisecond)
	}
	return out
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// everythingOn asks once, and makes sure that it cost what every request costs:
// what is measured would be worth nothing otherwise.
func (e *estate) everythingOn(ctx context.Context, d *domain, node *serving, caller *http.Client, who customer) error {
	planted := strings.ReplaceAll(askedPrompt, "\n", " ")
	status, text, err := ask(ctx, caller, node.API+"/v1", who.token, askedBody(planted, false))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, text)
	}
	if err != nil {
		return err
	}
	if err := complete(text); err != nil {
		return err
	}
	route, err := d.cat.Route(ctx, who.ID)
	if err != nil {
		return err
	}
	cfg, err := e.adminConfig(route.Config.Database)
	if err != nil {
		return err
	}
	return e.asOwner(ctx, cfg, func(look looker) error {
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			var missing string
			if err := look(whatIsKept, plantedMail).Scan(&missing); err != nil {
				return err
			}
			if missing == "" {
				return nil
			}
			if time.Now().After(end) {
				return errors.New(missing)
			}
		}
	})
}

// whatIsKept says what isn't there of one request that was answered.
const whatIsKept = `
select concat_ws(', ',
    case when not exists (select from freehold.predictions where state = 'succeeded' and input is not null
             and output is not null and payload_hash is not null) then 'no prediction' end,
    case when exists (select from freehold.predictions where position($1 in input::text || output::text) > 0)
         then 'personal data in the log' end,
    case when not exists (select from freehold.usage_ledger where cost > 0) then 'no priced ledger row' end,
    case when not exists (select from freehold.audit_log where action = 'prediction' and seal is not null)
         then 'no sealed audit row' end,
    case when exists (select from freehold.reservations) then 'a reservation' end)`
