package queue_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/catalog/queue"
	"freehold/migrations/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.MainLeak(m)
}

type bench struct {
	*testing.T
	cfg catalog.Config
}

func setup(t *testing.T) *bench {
	t.Helper()
	return &bench{T: t, cfg: catalogtest.Config(t)}
}

// queue makes one as a process of its own would.
func (b *bench) queue(cfg queue.Config) *queue.Queue {
	b.Helper()
	c, err := catalog.Open(b.Context(), b.cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	q, err := queue.New(c, cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := q.Stop(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	return q
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) within(d time.Duration, what string, cond func() bool) {
	b.Helper()
	for deadline := time.Now().Add(d); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%s: not within %s", what, d)
		}
	}
}

func TestPeriodic_survivesStopAndStart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var runs atomic.Int64
	q := b.queue(queue.Config{Periodic: []queue.Periodic{{
		Name: "sweep", Every: time.Second, RunAtStart: true,
		Run: func(context.Context) error { runs.Add(1); return nil },
	}}})
	b.ok(q.Start(t.Context()))
	if err := q.Start(t.Context()); !errors.Is(err, queue.ErrStarted) {
		t.Errorf("started twice: %v", err)
	}
	b.within(10*time.Second, "three runs", func() bool { return runs.Load() >= 3 })
	b.ok(q.Stop(t.Context()))
	b.ok(q.Stop(t.Context()))
	stopped := runs.Load()
	b.ok(q.Kick(t.Context(), "sweep"))
	time.Sleep(200 * time.Millisecond)
	if n := runs.Load(); n != stopped {
		t.Errorf("%d runs after Stop", n-stopped)
	}
	b.ok(q.Start(t.Context()))
	b.within(10*time.Second, "runs after the second Start", func() bool { return runs.Load() > stopped })
}

// Of several processes one runs a piece of work at a time, and a kick that comes
// during a run is one more run after it. Kicks that wait together are run together,
// but for those that look for the lock at the same moment.
func TestPeriodic_oneAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var running, runs, most atomic.Int64
	work := queue.Periodic{
		Name: "roll-up", Every: time.Hour,
		Run: func(ctx context.Context) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			runs.Add(1)
			time.Sleep(400 * time.Millisecond)
			return nil
		},
	}
	one, two := b.queue(queue.Config{Periodic: []queue.Periodic{work}}), b.queue(queue.Config{Periodic: []queue.Periodic{work}})
	b.ok(one.Start(t.Context()))
	b.ok(two.Start(t.Context()))
	b.ok(one.Kick(t.Context(), "roll-up"))
	b.within(5*time.Second, "first run", func() bool { return running.Load() == 1 })
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if err := []*queue.Queue{one, two}[i%2].Kick(t.Context(), "roll-up"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	b.within(10*time.Second, "second run", func() bool { return runs.Load() >= 2 && running.Load() == 0 })
	time.Sleep(1500 * time.Millisecond)
	if runs.Load() > 4 || most.Load() != 1 {
		t.Errorf("%d runs, %d at once", runs.Load(), most.Load())
	}
}

// A process that was killed leaves its job as running; the work goes on anyway.
func TestPeriodic_afterAKill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var runs atomic.Int64
	q := b.queue(queue.Config{Periodic: []queue.Periodic{{
		Name: "seal", Every: time.Hour, Run: func(context.Context) error { runs.Add(1); return nil },
	}}})
	conn, err := pgx.Connect(t.Context(), b.cfg.URL)
	b.ok(err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `
		insert into river.river_job (kind, args, queue, state, max_attempts, attempt, attempted_at, attempted_by)
		values ('periodic', '{"name":"seal"}', 'default', 'running', 1, 1, now(), '{dead}')`)
	b.ok(err)
	b.ok(q.Kick(t.Context(), "seal"))
	b.ok(q.Start(t.Context()))
	b.within(5*time.Second, "run", func() bool { return runs.Load() == 1 })
}

func TestStop_softThenHard(t *testing.T) {
	t.Parallel()
	b := setup(t)
	started, ended := make(chan struct{}), make(chan error, 1)
	q := b.queue(queue.Config{StopSoft: 300 * time.Millisecond, StopHard: 5 * time.Second, Periodic: []queue.Periodic{{
		Name: "slow", Every: time.Hour, RunAtStart: true,
		Run: func(ctx context.Context) error {
			close(started)
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		},
	}}})
	b.ok(q.Start(t.Context()))
	<-started
	began := time.Now()
	b.ok(q.Stop(t.Context()))
	if took := time.Since(began); took < 300*time.Millisecond || took > 4*time.Second {
		t.Errorf("stopped after %s", took)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("work ended with %v", err)
	}
}

// An error and a panic are logged with the work's name, and the process goes on.
func TestRun_failures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var log lines
	q := b.queue(queue.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Periodic: []queue.Periodic{
		{Name: "breaks", Every: time.Hour, RunAtStart: true, Run: func(context.Context) error { return errors.New("no luck") }},
		{Name: "panics", Every: time.Hour, RunAtStart: true, Run: func(context.Context) error { panic("oh") }},
	}})
	b.ok(q.Start(t.Context()))
	b.within(10*time.Second, "logged", func() bool {
		s := log.String()
		return strings.Contains(s, "work=breaks error=\"no luck\"") && strings.Contains(s, "work=panics error=\"panic: oh\"")
	})
	b.ok(q.Stop(t.Context()))
	if strings.Contains(log.String(), "level=INFO") || strings.Contains(log.String(), "level=WARN") {
		t.Errorf("River talks:\n%s", log.String())
	}
}

func TestNew_refuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, err := catalog.Open(t.Context(), b.cfg)
	b.ok(err)
	defer c.Close()
	_, err = queue.New(c, queue.Config{Workers: -1, Periodic: []queue.Periodic{{Name: "A b", Every: time.Millisecond, Timeout: -1}}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"Workers", "name", "Every", "Timeout", "Run"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%v doesn't name %s", err, field)
		}
	}
	q, err := queue.New(c, queue.Config{})
	b.ok(err)
	if err := q.Kick(t.Context(), "none"); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("kicked: %v", err)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
