package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"freehold/inference/finetune"
	"freehold/inference/finetune/child"
	"freehold/tenantdb"
)

// Run has spec's command do a run, by the protocol that the package's comment
// describes, without the addresses. It adds to spec.Env, and sets Stdout, Slot, and
// what is zero of Dir and NoGrace. It returns the result that the command printed, a
// *finetune.Failure that it printed, ctx's cause, Report's or Saved's error, or an
// error that wraps *child.Exit and the like.
func Run(ctx context.Context, run *finetune.Run, spec child.Spec) (finetune.Result, error) {
	if cause := context.Cause(ctx); cause != nil {
		return finetune.Result{}, cause
	}
	// Beside the run's own folders, so that it goes with them if we don't live to
	// remove it.
	dir, err := os.MkdirTemp(filepath.Dir(run.Out), "command-")
	if err != nil {
		return finetune.Result{}, fmt.Errorf("make command's folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	env, err := prepare(dir, run)
	if err != nil {
		return finetune.Result{}, err
	}
	h := &hearing{run: run}
	spec.Env = slices.Concat(spec.Env, env)
	spec.Stdout = func(line []byte) error { return h.line(ctx, line) }
	spec.Slot = run.Slot
	if spec.Dir == "" {
		spec.Dir = dir
	}
	if spec.NoGrace == nil {
		spec.NoGrace = func(cause error) bool { return !cancelled(cause) }
	}
	err = child.Command(ctx, spec)
	if cause := context.Cause(ctx); cause != nil {
		return finetune.Result{}, cause
	}
	if err == nil || h.failure != nil {
		err = errors.Join(err, h.over(ctx))
	}
	switch {
	case h.failure != nil:
		return finetune.Result{}, h.failure
	case err != nil:
		return finetune.Result{}, fmt.Errorf("train by command %s: %w", filepath.Base(spec.Path), err)
	}
	return h.result(), nil
}

// cancelled reports whether a run ends because its job does, and not its worker
// alone. The job's row may tell before the queue does.
func cancelled(cause error) bool {
	return errors.Is(cause, finetune.ErrCancelled) || errors.Is(cause, tenantdb.ErrEndedJob)
}
