package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

// lookTime bounds a last look at an operation, also when the command's time is over.
const lookTime = 5 * time.Second

// perform does an operation here and draws how far it is, or watches the worker that
// was quicker. The error says how the operation was left, and which command is next.
func (e *env) perform(ctx context.Context, p *app.Platform, op catalog.Operation) (catalog.Operation, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	did := make(chan error, 1)
	go func() {
		err := p.Fleet.Do(ctx, op.ID)
		if err != nil && !errors.Is(err, catalog.ErrConflict) {
			stop() // otherwise a worker has it, or has done it, or it has failed for good
		}
		did <- err
	}()
	_, seen := e.follow(watching, p, op)
	err := <-did
	if errors.Is(err, catalog.ErrConflict) {
		err = nil
	}
	if err == nil && watching.Err() == nil {
		err = seen
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	now, lerr := p.Catalog.Operation(look, op.ID)
	if lerr != nil {
		return op, errors.Join(err, lerr)
	}
	if now.State == catalog.OperationDone {
		return now, nil
	}
	return now, left(now, err)
}

// left says how an operation was left that isn't done, and what is next.
func left(op catalog.Operation, err error) error {
	why := op.Error
	if err != nil {
		why = err.Error()
	}
	next := map[string]string{
		catalog.OperationWaiting: "a worker tries it again (freehold operation show %[1]s --wait); to take it back: freehold operation cancel %[1]s",
		catalog.OperationRunning: "a worker goes on with it (freehold operation show %[1]s --wait); to take it back: freehold operation cancel %[1]s",
		catalog.OperationFailed:  "try again: freehold operation retry %[1]s; or take it back: freehold operation cancel %[1]s",
	}[op.State]
	said := fmt.Sprintf("the %s is %s", op.Kind, op.State)
	if why != "" && why != op.State {
		said += ": " + why
	}
	if next != "" {
		said += "\n" + fmt.Sprintf(next, op.ID)
	}
	return &leftError{said, err}
}

// leftError is such a text, which the command's error behind it is no part of.
type leftError struct {
	said string
	err  error
}

func (e *leftError) Error() string { return e.said }

func (e *leftError) Unwrap() error { return e.err }

// note reads what an operation's steps have noted under a name; false: nothing, or
// nothing of this form.
func note(op catalog.Operation, name string, into any) bool {
	notes, err := op.Notes()
	return err == nil && len(notes[name]) > 0 && json.Unmarshal(notes[name], into) == nil
}

// detached tells of an operation that was begun for workers.
func (e *env) detached(op catalog.Operation) error {
	if e.output == "json" {
		return e.json(op)
	}
	e.say("%s of %s is begun, for a worker to do: freehold operation show %s --wait", op.Kind, op.Tenant, op.ID)
	return nil
}

// steps prints what an operation did, and how long each part took.
func (e *env) steps(op catalog.Operation) {
	t := table{}
	for _, s := range op.Steps {
		t.add("  "+s.Name, s.State, took(s))
	}
	for _, line := range t.lines() {
		e.say("%s", line)
	}
}
