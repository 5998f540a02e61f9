package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/pprof"
	"strings"
	"time"
)

// topic is one benchmark by its NAME. Its contests share what open makes.
type topic struct {
	name string
	open func(ctx context.Context, b *bench) (contests []contest, closeAll func(), err error)
}

// contest measures cases that share rounds. When it fails, none of them has been
// measured; the other contests go on.
type contest struct {
	name  string
	cases []string
	run   func(ctx context.Context, b *bench) error
}

// side is one way to do a contest's work. turn lasts about d and returns what was
// reached, a rate or another number of which the rounds' median counts.
type side struct {
	name   string
	turn   func(ctx context.Context, round int, d time.Duration) (float64, error)
	rounds []float64 // what the turns returned, by round
}

// bench is one run of one topic.
type bench struct {
	topic   string
	opt     options
	out     io.Writer // JSON
	log     io.Writer // people
	random  *rand.Rand
	results []result
	missing []string
}

func newBench(topic string, opt options, out, log io.Writer) *bench {
	return &bench{topic: topic, opt: opt, out: out, log: log,
		// The same order in every run; what matters is that it changes with the round.
		random: rand.New(rand.NewPCG(1, 2))}
}

// errUnmeasured says that at least one case has no figure.
var errUnmeasured = errors.New("not measured")

func (b *bench) run(ctx context.Context, t topic) error {
	contests, closeAll, err := t.open(ctx, b)
	if closeAll != nil {
		defer closeAll()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	for _, c := range contests {
		if !b.opt.only.MatchString(c.name) {
			continue
		}
		before := len(b.results)
		if err := c.run(ctx, b); err != nil {
			b.progress("%s: %v", c.name, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.missing = append(b.missing, lacking(c.cases, b.results[before:])...)
	}
	b.table()
	if len(b.missing) > 0 {
		return fmt.Errorf("%s: %w: %s", t.name, errUnmeasured, strings.Join(b.missing, ", "))
	}
	return nil
}

// lacking are the cases that have no result.
func lacking(cases []string, results []result) (none []string) {
	have := map[string]bool{}
	for _, r := range results {
		have[r.Case] = true
	}
	for _, name := range cases {
		if !have[name] {
			none = append(none, name)
		}
	}
	return none
}

// play runs every side once a round, in an order that each round shuffles, and
// fills in their rounds.
func (b *bench) play(ctx context.Context, name string, sides ...*side) error {
	for round := range b.opt.rounds {
		b.progress("%s, round %d of %d", name, round+1, b.opt.rounds)
		order := append([]*side(nil), sides...)
		b.random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, s := range order {
			var value float64
			var err error
			// With -cpuprofile, `go tool pprof -tagfocus` tells the sides apart.
			pprof.Do(ctx, pprof.Labels("side", s.name), func(ctx context.Context) {
				value, err = s.turn(ctx, round, b.opt.slot)
			})
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.rounds = append(s.rounds, value)
		}
	}
	for _, s := range sides {
		b.progress("  %-32s %s", s.name, figure(median(s.rounds)))
	}
	return nil
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.log, "%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}
