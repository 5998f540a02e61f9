package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	builtinengine "freehold/inference/engine/builtin"
)

// finetuneCost is what a thousand different examples cost from file to model, in
// processor seconds of this process.
func finetuneCost(ctx context.Context, b *bench) error {
	all, err := corpora()
	if err != nil {
		return err
	}
	known := sentences(all)
	var examples []lesson
	for _, before := range []string{"", "Hello, "} {
		for _, p := range known {
			if len(examples) < 1000 {
				examples = append(examples, lesson{before + p.prompt, p.answer})
			}
		}
	}
	if len(examples) < 1000 {
		return fmt.Errorf("%d examples are not a thousand", len(examples))
	}
	var rounds []float64
	for round := range min(b.opt.rounds, 3) {
		b.progress("cost, round %d", round+1)
		began, err := processTime()
		if err != nil {
			return err
		}
		if _, err := train(ctx, examples); err != nil {
			return err
		}
		ended, err := processTime()
		if err != nil {
			return err
		}
		rounds = append(rounds, (ended - began).Seconds())
	}
	return b.emit("cpu_s_1000", "s", atMost(30), rounds, "with encoding; both in cpu seconds")
}

// finetuneEncode is how many sentences one core encodes in a second of its own time.
func finetuneEncode(ctx context.Context, b *bench) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, err := corpora()
	if err != nil {
		return err
	}
	e, err := builtinengine.Load()
	if err != nil {
		return err
	}
	known := sentences(all)
	var rounds []float64
	next := 0
	for range b.opt.rounds {
		done, began := 0, threadTime()
		for threadTime()-began < b.opt.slot {
			if _, err := e.Encode(ctx, known[next%len(known)].prompt); err != nil {
				return err
			}
			next++
			done++
		}
		rounds = append(rounds, float64(done)/(threadTime()-began).Seconds())
	}
	return b.emit("sentences_s", "1/s", atLeast(80), rounds, "the corpora's prompts, a core's own time")
}

// finetunePredict is how long a tuned model takes to answer, as the engine is asked.
func finetunePredict(ctx context.Context, b *bench) error {
	all, err := corpora()
	if err != nil {
		return err
	}
	c := all[0]
	raw, err := train(ctx, c.train)
	if err != nil {
		return err
	}
	e, err := builtinengine.New()
	if err != nil {
		return err
	}
	var rounds []float64
	for range b.opt.rounds {
		var took []float64
		for began, i := time.Now(), 0; time.Since(began) < b.opt.slot || i < 20; i++ {
			start := time.Now()
			if _, err := e.Chat(ctx, chatRequest("bench", raw, c.held[i%len(c.held)].prompt)); err != nil {
				return err
			}
			took = append(took, float64(time.Since(start).Microseconds())/1000)
		}
		rounds = append(rounds, median(took))
	}
	return b.emit("predict_p50_ms", "ms", atMost(20), rounds, "through the engine, of "+c.name)
}

// processTime is the processor time that this process has had.
func processTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
