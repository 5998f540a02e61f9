package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"freehold/catalog"
	"freehold/catalog/queue/schema"
)

// ErrUnknown is returned by Kick for a name that isn't configured.
var ErrUnknown = errors.New("no periodic work of that name")

// ErrStarted is returned by Start when the queue is at work already.
var ErrStarted = errors.New("already started")

// Periodic is work that is done again and again, by one process at a time.
type Periodic struct {
	Name       string        // a-z, 0-9 and dashes; the same in every process
	Every      time.Duration // at least a second
	RunAtStart bool          // also when a process becomes the one that plans
	Timeout    time.Duration // of one run; 10 min, at most an hour
	// Run does the work. Its context ends at the timeout and when the queue is
	// stopped hard. An error is logged; the next period tries again.
	Run func(ctx context.Context) error
}

// Config of a Queue; zero means the default named beside a field.
type Config struct {
	Workers  int           // runs at once in this process; 4
	StopSoft time.Duration // how long Stop lets runs end by themselves; 10 s
	StopHard time.Duration // and how long it then waits for cancelled ones; 5 s
	Logger   *slog.Logger
	Periodic []Periodic
}

const (
	defaultTimeout = 10 * time.Minute
	maxTimeout     = time.Hour
)

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

func (cfg Config) withDefaults() Config {
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	if cfg.StopSoft == 0 {
		cfg.StopSoft = 10 * time.Second
	}
	if cfg.StopHard == 0 {
		cfg.StopHard = 5 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

func (cfg Config) validate() error {
	var errs []error
	if cfg.Workers < 1 || cfg.Workers > 1000 {
		errs = append(errs, fmt.Errorf("Workers: %d is not within 1 and 1000", cfg.Workers))
	}
	seen := map[string]bool{}
	for _, p := range cfg.Periodic {
		if !namePattern.MatchString(p.Name) || seen[p.Name] {
			errs = append(errs, fmt.Errorf("Periodic: name %q is malformed or there twice", p.Name))
		}
		seen[p.Name] = true
		if p.Every < time.Second {
			errs = append(errs, fmt.Errorf("Periodic %s: Every is below a second", p.Name))
		}
		if p.Timeout < 0 || p.Timeout > maxTimeout {
			errs = append(errs, fmt.Errorf("Periodic %s: Timeout is not within 0 and %s", p.Name, maxTimeout))
		}
		if p.Run == nil {
			errs = append(errs, fmt.Errorf("Periodic %s: Run is missing", p.Name))
		}
	}
	return errors.Join(errs...)
}

// Queue plans and does periodic work. It is safe for concurrent use.
type Queue struct {
	cfg    Config
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	known  map[string]bool

	mu      sync.Mutex // guards started
	started bool
}

// New makes a queue over an open catalog. It does no I/O. Kick works without
// Start, so a process without workers can wake those of others.
func New(c *catalog.Catalog, cfg Config) (*Queue, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("make queue: %w", err)
	}
	pool, err := c.QueuePool()
	if err != nil {
		return nil, fmt.Errorf("make queue: %w", err)
	}
	q := &Queue{cfg: cfg, pool: pool, known: map[string]bool{}}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{queue: q})
	var periodic []*river.PeriodicJob
	for _, p := range cfg.Periodic {
		q.known[p.Name] = true
		periodic = append(periodic, river.NewPeriodicJob(
			river.PeriodicInterval(p.Every),
			func() (river.JobArgs, *river.InsertOpts) { return args{Name: p.Name}, nil },
			&river.PeriodicJobOpts{ID: p.Name, RunOnStart: p.RunAtStart}))
	}
	q.client, err = river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema:       schema.Name,
		Logger:       slog.New(quiet{cfg.Logger.Handler()}),
		Queues:       map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: cfg.Workers}},
		Workers:      workers,
		PeriodicJobs: periodic,
		MaxAttempts:  1,
		JobTimeout:   defaultTimeout,
		// Nothing waits for a job that died with its process: these rows are only
		// swept. A day of them would be most of the catalog.
		RescueStuckJobsAfter:        maxTimeout + 5*time.Minute,
		CompletedJobRetentionPeriod: 10 * time.Minute,
		DiscardedJobRetentionPeriod: time.Hour,
		CancelledJobRetentionPeriod: time.Hour,
		SoftStopTimeout:             cfg.StopSoft,
	})
	if err != nil {
		return nil, fmt.Errorf("make queue: %w", err)
	}
	return q, nil
}

// Start begins to plan and to work; it can follow a Stop. When ctx ends, that is
// a Stop that nobody waits for.
func (q *Queue) Start(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.started {
		return fmt.Errorf("start queue: %w", ErrStarted)
	}
	if err := q.client.Start(ctx); err != nil {
		return fmt.Errorf("start queue: %w", catalog.ErrUnavailable)
	}
	q.started = true
	return nil
}

// Stop takes no new work, lets what runs end for StopSoft, then cancels its
// context and waits for StopHard at most. It returns an error when something was
// left running, or ctx ended first. A queue that isn't started is stopped.
func (q *Queue) Stop(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.started {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.StopSoft+q.cfg.StopHard)
	defer cancel()
	if err := q.client.Stop(ctx); err != nil {
		return fmt.Errorf("stop queue: %w", err)
	}
	q.started = false
	return nil
}

// Kick asks for a run now, in whichever process is free; ErrUnknown or
// catalog.ErrUnavailable. It is one more run after the one that is going on, if
// any; of kicks that wait together few run.
func (q *Queue) Kick(ctx context.Context, name string) error {
	if !q.known[name] {
		return fmt.Errorf("kick %q: %w", name, ErrUnknown)
	}
	if _, err := q.client.Insert(ctx, args{Name: name, Kick: true}, &river.InsertOpts{MaxAttempts: 5}); err != nil {
		return fmt.Errorf("kick %s: %w", name, catalog.ErrUnavailable)
	}
	return nil
}
