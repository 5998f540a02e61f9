// Package trainertest is the suite that each trainer passes: what workers rely on,
// whoever does the work.
package trainertest

import (
	"testing"
	"time"

	"freehold/catalog"
	"freehold/inference/finetune"
	"freehold/tenantdb/blob"
)

// Fixture is a trainer under test. Trainer and Base are required.
type Fixture struct {
	Trainer finetune.Trainer
	Base    catalog.Model
	// Slow is the trainer with work that goes on for long after its first event, so
	// that it can be ended meanwhile; nil: Trainer's does. It begins its work where
	// Trainer does.
	Slow finetune.Trainer
	// Spoil changes a run so that it fails for good: by its data, or by what the
	// trainer makes of it.
	Spoil func(t *testing.T, run *finetune.Run)
	// Objects are what runs may use; nil: this trainer doesn't.
	Objects *blob.Objects
	// Deterministic: equal data and seeds make equal artifacts, also when a run was
	// ended in between.
	Deterministic bool
	// Saves: a try keeps something for the next one.
	Saves bool
	// Alive counts the processes that runs have on this machine now; nil: they
	// start none.
	Alive func() int
	// Elsewhere tells of jobs at another server; nil: there is none.
	Elsewhere *Elsewhere
	// Secrets are in no error and no event.
	Secrets []string
	// Ends bounds the time from the end of a run's context to the return of Train; 10 s.
	Ends time.Duration
}

// Elsewhere counts jobs at another server.
type Elsewhere struct {
	Begun   func() int // ever
	Running func() int // now
}

// Run runs the suite. Each test has a fixture of its own.
func Run(t *testing.T, fixture func(*testing.T) Fixture) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Fixture){
		"makes a model":               makesModel,
		"without validation":          withoutValidation,
		"methods":                     methods,
		"several at once":             several,
		"the same again":              sameAgain,
		"cancelled":                   cancelled,
		"ended":                       ended,
		"ended before":                endedBefore,
		"a report that is refused":    refusedReport,
		"a second try":                secondTry,
		"a second try after a cancel": cancelledBySecond,
		"fails for good":              failsForGood,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fx := fixture(t)
			if fx.Slow == nil {
				fx.Slow = fx.Trainer
			}
			if fx.Alive == nil {
				fx.Alive = func() int { return 0 }
			}
			if fx.Ends == 0 {
				fx.Ends = 10 * time.Second
			}
			test(t, fx)
			for deadline := time.Now().Add(time.Second); fx.Alive() > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d processes are left", fx.Alive())
				}
			}
		})
	}
}
