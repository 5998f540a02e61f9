// Package builtin fine-tunes the built-in model: it encodes a tenant's examples and
// fits a head (inference/engine/builtin/head) to them, in a child process of our own
// binary. The artifact, model.safetensors and card.json, is what the built-in engine
// serves. Equal data and seeds make equal bytes, however often a job was killed on
// the way.
package builtin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"freehold/inference/finetune"
	"freehold/inference/finetune/child"
	"freehold/inference/finetune/command"
)

// mainArg is the first argument of a process that trains.
const mainArg = "train-builtin"

// Main is called in main, behind child.Guard, and in each TestMain of a binary that
// is a Config's Path. In a process that trains it does that and never returns; else
// it does nothing.
func Main() {
	if len(os.Args) < 2 || os.Args[1] != mainArg {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := Train(ctx, os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Config of a Trainer. Path is required.
type Config struct {
	Path  string // of a binary whose main calls Main: our own
	Cores int    // for a run; 0: all that this process has
	Eager bool   // runs take their turn with everybody else, not after them
}

// Trainer trains in a child process.
type Trainer struct{ cfg Config }

// New does no I/O.
func New(cfg Config) *Trainer { return &Trainer{cfg} }

// Check refuses every method but supervised.
func Check(m finetune.Method) error {
	if m.Type != "" && m.Type != "supervised" {
		return &finetune.Refused{Param: "method.type", Message: "must be supervised: the built-in model knows no other"}
	}
	return nil
}

// Check is the package's.
func (t *Trainer) Check(m finetune.Method) error { return Check(m) }

// Train runs the child. It fails for good on data alone.
func (t *Trainer) Train(ctx context.Context, run *finetune.Run) (finetune.Result, error) {
	if t.cfg.Path == "" {
		return finetune.Result{}, errors.New("builtin trainer: Path is required")
	}
	return command.Run(ctx, run, child.Spec{Path: t.cfg.Path, Args: []string{mainArg}, Cores: t.cfg.Cores, Eager: t.cfg.Eager})
}
