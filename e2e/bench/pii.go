package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"freehold/inference/pii"
	"freehold/inference/pii/piitest"
)

const (
	piiTexts = 20_000 // of the corpus, each round
	piiSeed  = 1_000  // of the first round; tests have others
	piiBytes = 4 << 20
)

// piiRecalls are the entities whose recall is a case, with its goal.
var piiRecalls = []struct {
	entity pii.Entity
	name   string
	goal   float64
}{
	{pii.Card, "recall_card", 1}, {pii.IBAN, "recall_iban", 1}, {pii.SSN, "recall_ssn", 1},
	{pii.Email, "recall_email", 1}, {pii.IP, "recall_ip", 1}, {pii.Phone, "recall_phone", 0.98},
}

// piiContests measures the scanner of personal data on a generated corpus: how much
// it finds, how much of that is right, and how fast.
func piiContests(context.Context, *bench) ([]contest, func(), error) {
	var cases []string
	for _, r := range piiRecalls {
		cases = append(cases, r.name)
	}
	return []contest{
		{"quality", append(cases, "precision_min"), piiQuality},
		{"speed", []string{"scanner_mb_s"}, piiSpeed},
	}, nil, nil
}

// piiQuality scores a corpus of another seed each round. The worst round counts:
// a median would forgive what is missed now and then.
func piiQuality(ctx context.Context, b *bench) error {
	scanner := pii.New(pii.Options{})
	recalls := make([][]float64, len(piiRecalls))
	var precisions []float64
	worst := pii.Entity("")
	for round := range b.opt.rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		scores := piitest.Evaluate(piitest.Corpus(piiSeed+uint64(round), piiTexts), scanner.Find, nil)
		for i, r := range piiRecalls {
			// Cut to the four digits that are shown, so that one miss never rounds to 1.
			recalls[i] = append(recalls[i], math.Floor(scores[r.entity].Recall()*1e4)/1e4)
		}
		least := 1.0
		for entity, score := range scores {
			if p := score.Precision(); p < least {
				least, worst = p, entity
			}
		}
		precisions = append(precisions, least)
	}
	for i, r := range piiRecalls {
		if err := b.write(r.name, "share", atLeast(r.goal), quantile(recalls[i], 0), recalls[i], "worst round"); err != nil {
			return err
		}
	}
	return b.write("precision_min", "share", atLeast(0.95), quantile(precisions, 0), precisions,
		"worst entity of the worst round; last "+string(worst))
}

// piiSpeed is how much of mixed prose one core scans in a second of its own time,
// which other processes on the machine don't shorten.
func piiSpeed(ctx context.Context, b *bench) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	text := piitest.Prose(piiSeed, piiBytes)
	messages := strings.SplitAfter(text, "\n\n")
	scanner := pii.New(pii.Options{})
	var rates []float64
	found := 0
	for round := range b.opt.rounds {
		b.progress("speed, round %d of %d", round+1, b.opt.rounds)
		passes, began := 0, threadTime()
		for threadTime()-began < b.opt.slot {
			if err := ctx.Err(); err != nil {
				return err
			}
			found = 0
			for _, m := range messages {
				found += len(scanner.Find(m))
			}
			passes++
		}
		rates = append(rates, float64(passes*len(text))/1e6/(threadTime()-began).Seconds())
	}
	return b.emit("scanner_mb_s", "MB/s", atLeast(50), rates,
		fmt.Sprintf("%d messages, a match every %d bytes", len(messages), len(text)/max(1, found)))
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // the clock is there on each system that this runs on
	}
	return time.Duration(t.Nano())
}
