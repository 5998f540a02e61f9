package main

import (
	"context"
	"time"

	"freehold/e2e/wire"
)

// trips counts the flushes to the tenant's database of one request, from when it
// is sent until it is answered. They are counted outside of Freehold, on the wire.
func (e *estate) trips(ctx context.Context, b *bench) error {
	way, err := wire.Open(e.address())
	if err != nil {
		return err
	}
	defer way.Close()
	d, err := e.openDomain(ctx, "freehold_trips", way.Addr())
	if err != nil {
		return err
	}
	who, err := d.customer(ctx, "traveller", 1e12, 1000)
	if err != nil {
		return err
	}
	node, err := e.serve(ctx, d)
	if err != nil {
		return err
	}
	defer node.kill()
	caller := newCaller()
	defer caller.CloseIdleConnections()
	route, err := d.cat.Route(ctx, who.ID)
	if err != nil {
		return err
	}
	flushes := func() int64 { return way.Flushes(route.Config.User) }
	body := askedBody(askedPrompt, false)
	one := func(ctx context.Context) error { return answered(ctx, caller, node.API+"/v1", who.token, body) }
	for range 3 { // the first ones find the connection cold, and statements that nobody prepared
		if err := one(ctx); err != nil {
			return err
		}
	}
	// Sealing goes on beside the requests, once a second; it isn't theirs, and
	// falls into few of them.
	var all []float64
	counted := &side{name: "flushes", turn: func(ctx context.Context, _ int, d time.Duration) (float64, error) {
		var each []float64
		for end := time.Now().Add(d); len(each) < 5 || time.Now().Before(end); {
			before := flushes()
			if err := one(ctx); err != nil {
				return 0, err
			}
			each = append(each, float64(flushes()-before))
		}
		all = append(all, each...)
		return median(each), nil
	}}
	if err := b.play(ctx, "trips", counted); err != nil {
		return err
	}
	var sum float64
	for _, n := range all {
		sum += n
	}
	return b.emit("round_trips", "flushes", atMost(2), counted.rounds,
		"of a request while it lasts; "+figure(sum/float64(len(all)))+" on average, with what goes on beside")
}
