package queue

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
)

const kind = "periodic"

// args of the one kind of job: which work, and whether it was asked for by Kick.
type args struct {
	Name string `json:"name"`
	Kick bool   `json:"kick,omitempty"`
}

func (args) Kind() string { return kind }

// worker runs the periodic work that its job names.
type worker struct {
	river.WorkerDefaults[args]
	queue *Queue
}

func (w *worker) find(name string) (Periodic, bool) {
	for _, p := range w.queue.cfg.Periodic {
		if p.Name == name {
			return p, true
		}
	}
	return Periodic{}, false
}

func (w *worker) Timeout(job *river.Job[args]) time.Duration {
	if p, _ := w.find(job.Args.Name); p.Timeout > 0 {
		return p.Timeout
	}
	return defaultTimeout
}

// again is when a kicked run that found another going on looks again, and when a
// job goes back that this process doesn't know.
const again = 500 * time.Millisecond

// River's own uniqueness counts running jobs, and one that died with its process
// runs for hours there. So jobs may be there twice, the newest of those that wait
// is the one that counts (of kicks the newest kick, since only a kick waits for
// the run that is going on), and a session lock, which dies with its holder,
// keeps runs apart.
const (
	selectNewer = `
select exists (
    select from river.river_job
     where kind = 'periodic' and state in ('available', 'scheduled', 'retryable', 'pending')
       and args->>'name' = $1 and id > $2 and (not $3 or args ? 'kick'))`

	tryLock = `select pg_try_advisory_lock(hashtextextended('freehold_queue ' || $1, 0))`
	unlock  = `select pg_advisory_unlock(hashtextextended('freehold_queue ' || $1, 0))`
)

func (w *worker) Work(ctx context.Context, job *river.Job[args]) error {
	name := job.Args.Name
	p, ok := w.find(name)
	if !ok {
		// Another release's work; its process takes it, or it is gone for good.
		if time.Since(job.CreatedAt) > maxTimeout {
			return nil
		}
		return river.JobSnooze(again)
	}
	conn, err := w.queue.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("run %s: no connection", name)
	}
	defer conn.Release()
	var newer, mine bool
	if err := conn.QueryRow(ctx, selectNewer, name, job.ID, job.Args.Kick).Scan(&newer); err != nil {
		return fmt.Errorf("run %s: no look at what waits", name)
	}
	if newer {
		return nil
	}
	if err := conn.QueryRow(ctx, tryLock, name).Scan(&mine); err != nil {
		return fmt.Errorf("run %s: no lock", name)
	}
	switch {
	case mine:
		w.run(ctx, p)
		release(ctx, conn, name)
	case job.Args.Kick:
		return river.JobSnooze(again)
	}
	return nil
}

// run logs how the work ended. River isn't told: it would store the error's text
// and try again sooner than the period.
func (w *worker) run(ctx context.Context, p Periodic) {
	began := time.Now()
	err := call(ctx, p.Run)
	if err != nil {
		w.queue.cfg.Logger.LogAttrs(ctx, slog.LevelError, "periodic work failed",
			slog.String("work", p.Name), slog.Any("error", err),
			slog.Int64("dur_ms", time.Since(began).Milliseconds()))
	}
}

// call makes an error of a panic, so that it is logged as every other.
func call(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return run(ctx)
}

// release gives the lock up, also when ctx has ended; a connection whose lock
// can't be given up is closed, and the lock with it.
func release(ctx context.Context, conn *pgxpool.Conn, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, unlock, name); err != nil {
		conn.Conn().Close(ctx)
	}
}
