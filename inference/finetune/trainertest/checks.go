package trainertest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/inference/finetune"
)

func makesModel(t *testing.T, fx Fixture) {
	j := newJob(t, fx)
	j.train(fx.Trainer, j.run())
	if !slices.ContainsFunc(j.told(), func(e finetune.Event) bool { return len(e.Metrics) > 0 }) {
		t.Error("no metrics were reported")
	}
}

func withoutValidation(t *testing.T, fx Fixture) {
	j := newJob(t, fx)
	r := j.run()
	r.Validation = ""
	j.train(fx.Trainer, r)
}

func methods(t *testing.T, fx Fixture) {
	for _, m := range []finetune.Method{
		{Type: "supervised"}, {Type: "supervised", Epochs: 3, BatchSize: 4, LearningRateMultiplier: 0.5},
	} {
		if err := fx.Trainer.Check(m); err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	}
	for _, kind := range []string{"nonsense", "Supervised"} {
		err := fx.Trainer.Check(finetune.Method{Type: kind})
		if r, ok := errors.AsType[*finetune.Refused](err); !ok || !strings.HasPrefix(r.Param, "method") || r.Message == "" {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

// several runs at once don't get in each other's way.
func several(t *testing.T, fx Fixture) {
	var group sync.WaitGroup
	models := make(chan string, 3)
	for slot := range cap(models) {
		j := newJob(t, fx)
		r := j.run()
		r.Slot = slot
		group.Go(func() {
			result, err := fx.Trainer.Train(t.Context(), r)
			if err != nil {
				t.Errorf("train: %v", err)
			}
			models <- result.Upstream
		})
	}
	group.Wait()
	first, second, third := <-models, <-models, <-models
	if first != "" && (first == second || second == third || first == third) {
		t.Errorf("jobs made one model: %q", first)
	}
}

func sameAgain(t *testing.T, fx Fixture) {
	if !fx.Deterministic {
		return
	}
	var outs []map[string][]byte
	for range 2 {
		j := newJob(t, fx)
		r := j.run()
		j.train(fx.Trainer, r)
		outs = append(outs, files(t, r.Out))
	}
	same(t, outs[0], outs[1])
}

func same(t *testing.T, a, b map[string][]byte) {
	t.Helper()
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s isn't the same", name)
		}
	}
	if len(a) != len(b) {
		t.Errorf("files %q and %q", slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
	}
}

// interrupt ends a run of Slow, for a reason, at its first event or, when a second
// try has nothing new to tell, after a while; it returns when Train has.
func (j *job) interrupt(cause error) {
	j.Helper()
	ctx, cancel := context.WithCancelCause(j.Context())
	defer cancel(nil)
	var once sync.Once
	var at time.Time
	end := func() { once.Do(func() { at = time.Now(); cancel(cause) }) }
	j.decide(func(string) error {
		end()
		return nil
	})
	if len(j.told()) > 0 {
		defer time.AfterFunc(300*time.Millisecond, end).Stop()
	}
	err := j.fails(ctx, j.fx.Slow, j.run())
	if at.IsZero() {
		j.Fatalf("it ended before it reported anything: %v", err)
	}
	if !errors.Is(err, cause) {
		j.Errorf("%v, want the context's cause", err)
	}
	if took := time.Since(at); took > j.fx.Ends {
		j.Errorf("it took %v to end", took)
	}
	j.decide(nil)
}

func cancelled(t *testing.T, fx Fixture) {
	newJob(t, fx).interrupt(finetune.ErrCancelled)
	if fx.Elsewhere != nil && fx.Elsewhere.Running() != 0 {
		t.Error("it goes on elsewhere")
	}
}

// Who merely stops working at a job leaves it to the next one.
func ended(t *testing.T, fx Fixture) {
	newJob(t, fx).interrupt(finetune.ErrLost)
	if fx.Elsewhere != nil && fx.Elsewhere.Running() != 1 {
		t.Errorf("%d jobs go on elsewhere, want the one", fx.Elsewhere.Running())
	}
}

func endedBefore(t *testing.T, fx Fixture) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(finetune.ErrLost)
	j := newJob(t, fx)
	if err := j.fails(ctx, fx.Trainer, j.run()); !errors.Is(err, finetune.ErrLost) {
		t.Errorf("%v, want the context's cause", err)
	}
	if fx.Elsewhere != nil && fx.Elsewhere.Begun() != 0 {
		t.Error("a job was begun elsewhere")
	}
}

var errReport = errors.New("the report was refused")

func refusedReport(t *testing.T, fx Fixture) {
	j := newJob(t, fx)
	var mu sync.Mutex
	calls := 0
	j.decide(func(what string) error {
		mu.Lock()
		defer mu.Unlock()
		if what != "report" && calls == 0 {
			return nil
		}
		calls++
		return errReport
	})
	began := time.Now()
	err := j.fails(t.Context(), fx.Slow, j.run())
	if !errors.Is(err, errReport) {
		t.Errorf("%v, want the report's error", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if calls != 1 || time.Since(began) > time.Minute {
		t.Errorf("%d reports in %v, want it to stop at the first", calls, time.Since(began))
	}
}

// What one try has begun the next one brings to its end, once.
func secondTry(t *testing.T, fx Fixture) {
	j := newJob(t, fx)
	if fx.Saves {
		j.interruptOnceSaved()
	} else {
		j.interrupt(finetune.ErrLost)
	}
	r := j.run()
	j.train(fx.Trainer, r)
	if fx.Elsewhere != nil && fx.Elsewhere.Begun() != 1 {
		t.Errorf("%d jobs were begun elsewhere", fx.Elsewhere.Begun())
	}
	if fx.Deterministic {
		whole := newJob(t, fx)
		w := whole.run()
		whole.train(fx.Trainer, w)
		same(t, files(t, w.Out), files(t, r.Out))
	}
}

// interruptOnceSaved ends a run when it has kept something.
func (j *job) interruptOnceSaved() {
	j.Helper()
	ctx, cancel := context.WithCancelCause(j.Context())
	defer cancel(nil)
	j.decide(func(what string) error {
		if what == "saved" {
			cancel(finetune.ErrLost)
		}
		return nil
	})
	if err := j.fails(ctx, j.fx.Trainer, j.run()); !errors.Is(err, finetune.ErrLost) {
		j.Errorf("%v, want the context's cause", err)
	}
	j.mu.Lock()
	saved := len(j.saved)
	j.mu.Unlock()
	if saved == 0 {
		j.Error("nothing was saved")
	}
	j.decide(nil)
}

// A cancel that comes when another worker has the job reaches what the first began.
func cancelledBySecond(t *testing.T, fx Fixture) {
	j := newJob(t, fx)
	j.interrupt(finetune.ErrLost)
	j.interrupt(finetune.ErrCancelled)
	if fx.Elsewhere != nil && (fx.Elsewhere.Running() != 0 || fx.Elsewhere.Begun() != 1) {
		t.Errorf("of %d jobs elsewhere %d go on", fx.Elsewhere.Begun(), fx.Elsewhere.Running())
	}
}

func failsForGood(t *testing.T, fx Fixture) {
	if fx.Spoil == nil {
		t.Fatal("the fixture says no way to fail")
	}
	j := newJob(t, fx)
	r := j.run()
	fx.Spoil(t, r)
	err := j.fails(t.Context(), fx.Trainer, r)
	if f, ok := errors.AsType[*finetune.Failure](err); !ok || f.Code == "" || f.Message == "" {
		t.Errorf("%v, want a failure with code and message", err)
	}
}
