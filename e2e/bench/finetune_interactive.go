package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// interactivePart of the capacity is what is asked for.
	interactivePart = 0.3
	// Turns are so many times as long as others. The jobs' one ends with the last job,
	// if that comes first.
	lonelyTurns = 10
	jobsTurns   = 30
)

// interactiveContest is what tenants who ask feel of tenants who train, on one
// machine.
var interactiveContest = contest{"interactive", []string{"interactive_p99"}, interactiveP99}

// interactiveP99 compares the p99 of chat requests while fifty jobs of ten tenants
// are done by two workers with what it is when there are none. The node and each
// worker are processes of their own, and the tenants that ask are those that train.
func interactiveP99(ctx context.Context, b *bench) (err error) {
	defer b.fewRounds()()
	e, err := openEstate(ctx, b)
	defer e.close()
	if err != nil {
		return err
	}
	y, err := e.openYard(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.close()) }()

	capacity := 0.0
	for range 2 { // the first lets the pools grow
		if capacity, err = closed(ctx, servedCallers, b.opt.slot, y.ask).whole(); err != nil {
			return err
		}
	}
	rate := interactivePart * capacity
	b.progress("  capacity %.0f/s, of which %.0f/s are asked for", capacity, rate)
	tail := func(t tally, latencies []time.Duration) (float64, error) {
		if _, err := t.whole(); err != nil {
			return 0, err
		}
		if t.done == 0 {
			return 0, errors.New("nothing was asked")
		}
		return p99(latencies), nil
	}
	quiet := &side{name: "asked", turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		return tail(open(ctx, rate, askedAtOnce, lonelyTurns*d, uint64(round), y.ask))
	}}
	var all shift
	busy := &side{name: "asked while jobs run", turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
		var (
			t         tally
			latencies []time.Duration
			asking    sync.WaitGroup
		)
		jobs, err := y.begin(ctx, round)
		if err != nil {
			return 0, err
		}
		// The end of the jobs is that of the load; who has asked is answered.
		during, end := context.WithCancel(ctx)
		defer end()
		asking.Go(func() {
			t, latencies = open(during, rate, askedAtOnce, jobsTurns*d, uint64(1000+round), func(_ context.Context, caller, i int) error {
				return y.ask(ctx, caller, i)
			})
			end()
		})
		seen, err := y.watch(during)
		end()
		asking.Wait()
		if err != nil {
			return 0, err
		}
		done, err := y.finish(ctx, jobs)
		if err != nil {
			return 0, err
		}
		done.samples, done.idle, done.running, done.took = seen.samples, seen.idle, seen.running, t.took
		b.progress("  %s", done)
		all.add(done)
		if done.idle*10 > done.samples {
			return 0, fmt.Errorf("no job was running at %d of %d looks", done.idle, done.samples)
		}
		return tail(t, latencies)
	}}
	if err := b.play(ctx, "interactive", quiet, busy); err != nil {
		return err
	}
	return b.emit("interactive_p99", "ratio", atMost(2), ratios(busy.rounds, quiet.rounds), fmt.Sprintf(
		"%s ms / %s ms, %.0f of %.0f requests a second; %s",
		figure(median(busy.rounds)), figure(median(quiet.rounds)), rate, capacity, all))
}
