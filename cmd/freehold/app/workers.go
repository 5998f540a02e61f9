package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/catalog/queue"
)

// background is what a process does besides serving: periodic work, operations and
// tenants' fine-tuning jobs, as they fall due.
type background struct {
	queue *queue.Queue
	stop  context.CancelFunc
	ended chan error // of the operations' and the jobs' work
}

// startWorkers starts them; the caller stops them, and ctx ends after that.
func startWorkers(ctx context.Context, p *Platform, cfg Config, log *slog.Logger) (*background, error) {
	periodic := chores(p)
	post, err := mailWork(p, cfg, log)
	if err != nil {
		return nil, err
	}
	periodic = append(periodic, post...)
	for i := range periodic {
		periodic[i].Run = recorded(p.Catalog, periodic[i].Name, periodic[i].Run)
	}
	if len(post) == 0 {
		// It may have been done before: nobody should miss it. A process that does it
		// writes it down again.
		if err := p.Catalog.ForgetChore(ctx, mailChore); err != nil {
			return nil, err
		}
	}
	q, err := queue.New(p.Catalog, queue.Config{
		Logger: log, StopSoft: drainTime / 2, StopHard: drainTime / 2, Periodic: periodic,
	})
	if err != nil {
		return nil, err
	}
	if err := q.Start(ctx); err != nil {
		return nil, err
	}
	trains, leave, err := newTrainingWorker(p, cfg, log)
	if err != nil {
		return nil, errors.Join(err, q.Stop(ctx))
	}
	ctx, stop := context.WithCancel(ctx)
	w := &background{queue: q, stop: stop, ended: make(chan error, 1)}
	var work errgroup.Group
	work.Go(func() error { return p.Fleet.Work(ctx) })
	work.Go(func() error {
		if trains == nil { // this machine trains nothing
			return nil
		}
		defer leave()
		return trains.Run(ctx)
	})
	go func() { w.ended <- work.Wait() }()
	return w, nil
}

// chores are the platform's own periodic work; each is done by one process at a time.
func chores(p *Platform) []queue.Periodic {
	return []queue.Periodic{
		{Name: "tenant-visits", Every: time.Second, RunAtStart: true, Run: p.Fleet.VisitDue},
		{Name: "daily-visits", Every: time.Hour, RunAtStart: true, Run: p.Fleet.MarkDaily},
		{Name: "ready-databases", Every: 10 * time.Second, RunAtStart: true, Run: p.Fleet.RefillReady},
		{Name: "database-names", Every: time.Minute, Run: p.Fleet.NameDatabases},
		{Name: "measure-servers", Every: 5 * time.Minute, RunAtStart: true, Run: p.Fleet.MeasureServers},
		{Name: "reconcile", Every: 10 * time.Minute, RunAtStart: true, Run: func(ctx context.Context) error {
			_, err := p.Fleet.Reconcile(ctx)
			return err
		}},
		{Name: "kept-databases", Every: 10 * time.Minute, Run: p.Fleet.DropKept},
		{Name: "audit-heads", Every: time.Hour, RunAtStart: true, Run: p.Fleet.AnchorAudits},
		{Name: "exports", Every: 10 * time.Minute, RunAtStart: true, Run: p.Fleet.ExpireExports},
		{Name: "catalog-backup", Every: time.Hour, RunAtStart: true, Run: p.Fleet.KeepCatalogBackups},
		{Name: "tenant-backups", Every: 10 * time.Second, RunAtStart: true, Run: p.Fleet.KeepBackups},
		{Name: "backup-retention", Every: time.Hour, RunAtStart: true, Run: p.Fleet.ExpireBackups},
		{Name: "backup-proofs", Every: time.Minute, Timeout: time.Hour, Run: p.Fleet.ProveBackups},
	}
}

// recordTime bounds the writing of how a chore ended.
const recordTime = 5 * time.Second

// recorded has the catalog know how each run ended, so that status tells of a chore
// that fails, takes too long or isn't done.
func recorded(cat *catalog.Catalog, name string, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		panicked := true
		defer func() {
			if err != nil && errors.Is(ctx.Err(), context.Canceled) {
				return // stopped, not failed
			}
			late := errors.Is(ctx.Err(), context.DeadlineExceeded)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
			defer cancel()
			switch {
			case panicked: // goes on; its log has it
				_ = cat.ChoreFailed(ctx, name, "it panicked: see the worker's log")
			case err != nil && late:
				err = errors.Join(err, cat.ChoreFailed(ctx, name, "not done in its time: "+err.Error()))
			case err != nil:
				err = errors.Join(err, cat.ChoreFailed(ctx, name, err.Error()))
			default:
				err = cat.ChoreDone(ctx, name)
			}
		}()
		err = run(ctx)
		panicked = false
		return err
	}
}

// Stop ends both; what was begun waits for the next worker.
func (w *background) Stop(ctx context.Context) error {
	w.stop()
	err := w.queue.Stop(ctx)
	select {
	case ended := <-w.ended:
		return errors.Join(err, ended)
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}
