package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// lookEvery is how often the queue of jobs is looked at.
const lookEvery = 200 * time.Millisecond

// startJobsTime bounds how long it takes until each worker has a job, endJobsTime
// how long until cancelled ones are gone.
const (
	startJobsTime = time.Minute
	endJobsTime   = 2 * time.Minute
)

// tuningJob is a job as its tenant sees it.
type tuningJob struct {
	of     int // tenant
	ID     string
	Status string
	Error  *struct{ Message string }
}

func (y *yard) jobs() string { return y.node.API + "/v1/fine_tuning/jobs" }

// begin creates the jobs, five of each tenant, and returns when each worker has one.
func (y *yard) begin(ctx context.Context, round int) ([]*tuningJob, error) {
	jobs := make([]*tuningJob, tuningJobs)
	for i := range jobs {
		job := &tuningJob{of: i % len(y.tenants)}
		jobs[i] = job
		// The seed makes each one another request.
		err := y.tenants[job.of].post(ctx, y.client, y.jobs(), map[string]any{
			"model": tunedBase, "training_file": y.files[job.of], "seed": round*tuningJobs + i,
		}, job)
		if err != nil {
			return nil, err
		}
	}
	for end := time.Now().Add(startJobsTime); ; {
		view, err := y.cat.Work(ctx)
		if err != nil || view.Running == len(y.workers) {
			return jobs, err
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%d jobs are running and %d wait: %w", view.Running, view.Waiting, y.alive())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// alive says which worker has ended.
func (y *yard) alive() error {
	var errs []error
	for _, w := range y.workers {
		errs = append(errs, w.alive())
	}
	return errors.Join(errs...)
}

// watch looks at the queue until it is empty or ctx ends.
func (y *yard) watch(ctx context.Context) (s shift, err error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		view, err := y.cat.Work(ctx)
		switch {
		case ctx.Err() != nil:
			return s, nil
		case err != nil:
			return s, err
		case view.Waiting+view.Running == 0:
			return s, nil
		}
		if err := y.alive(); err != nil {
			return s, err
		}
		s.samples++
		s.running += view.Running
		if view.Running == 0 {
			s.idle++
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, nil
		}
	}
}

// finish cancels the jobs that haven't ended and waits until nobody works on them.
// No job may have failed.
func (y *yard) finish(ctx context.Context, jobs []*tuningJob) (s shift, err error) {
	var asking errgroup.Group
	asking.SetLimit(4)
	for _, job := range jobs {
		asking.Go(func() error {
			who, url := y.tenants[job.of], y.jobs()+"/"+job.ID
			// One that has ended meanwhile can't be cancelled.
			cerr := who.post(ctx, y.client, url+"/cancel", nil, nil)
			err := who.call(ctx, y.client, http.MethodGet, url, "", nil, job)
			if err != nil || job.Status != "succeeded" && job.Status != "cancelled" {
				err = errors.Join(fmt.Errorf("job %s is %s (%+v)", job.ID, job.Status, job.Error), err, cerr)
			}
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		return s, err
	}
	for _, job := range jobs {
		if job.Status == "succeeded" {
			s.succeeded++
		} else {
			s.cancelled++
		}
	}
	for end := time.Now().Add(endJobsTime); ; time.Sleep(20 * time.Millisecond) {
		view, err := y.cat.Work(ctx)
		if err != nil || view.Waiting+view.Running == 0 {
			return s, err
		}
		if time.Now().After(end) {
			return s, errors.Join(fmt.Errorf("%d jobs are still running and %d wait", view.Running, view.Waiting), y.alive())
		}
	}
}

// shift is what became of jobs while others were asking.
type shift struct {
	succeeded, cancelled   int
	samples, idle, running int // looks at the queue, those at which no job was running, and running jobs in all
	took                   time.Duration
}

func (s *shift) add(o shift) {
	s.succeeded += o.succeeded
	s.cancelled += o.cancelled
	s.samples += o.samples
	s.idle += o.idle
	s.running += o.running
	s.took += o.took
}

func (s shift) String() string {
	return fmt.Sprintf("%d jobs ended well in %.0f s, %d were cancelled, %.1f were running at a time",
		s.succeeded, s.took.Seconds(), s.cancelled, float64(s.running)/float64(max(1, s.samples)))
}
