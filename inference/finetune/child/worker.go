package child

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// order is what a guard is told, first thing, through its pipe. It is no argument
// and no environment: those can be seen.
type order struct {
	Path        string
	Args, Env   []string
	Dir         string
	Cores, Slot int
	Eager       bool
	Grace       time.Duration
}

// stop follows the order when the command is to end with grace. The pipe's end
// means at once.
const stop = 's'

// report is a guard's last word.
type report struct {
	Errno syscall.Errno // of the start; 0: the command ran
	Exit  Exit
	Left  bool
}

// tellTime bounds how long a guard may take to hear its order.
const tellTime = 10 * time.Second

// guarded is a guard, as its worker has it.
type guarded struct {
	cmd            *exec.Cmd
	started        time.Time
	control        *os.File // written by us alone
	status         *os.File
	stdout, stderr *outlet
	tail           *tail // nil: nobody wants it
}

// start starts the guard, and tells it.
func start(s Spec) (*guarded, error) {
	self, err := Self()
	if err != nil {
		return nil, err
	}
	g := &guarded{cmd: exec.Command(self), stdout: newOutlet(), stderr: newOutlet()}
	g.cmd.Args = []string{"freehold", guardArg, filepath.Base(s.Path)} // for who looks at processes
	if s.StderrFile != "" {
		if g.tail, err = openTail(s.StderrFile, maxStderr); err != nil {
			g.close()
			return nil, fmt.Errorf("open file for standard error: %w", err)
		}
	}
	theirs, err := g.pipes()
	defer closeAll(theirs...)
	if err != nil {
		g.close()
		return nil, err
	}
	g.cmd.ExtraFiles, g.cmd.Stdout, g.cmd.Stderr = theirs[:2], theirs[2], theirs[3]
	g.cmd.Env, g.cmd.Dir = environment(nil), "/"
	// A group, and no session: schedulers that share time by session would count a
	// new one as somebody of equal right.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := g.cmd.Start(); err != nil {
		g.close()
		return nil, err
	}
	closeAll(theirs...)
	g.started = time.Now()
	_ = g.control.SetWriteDeadline(time.Now().Add(tellTime))
	err = gob.NewEncoder(g.control).Encode(order{s.Path, s.Args, environment(s.Env), s.Dir, s.Cores, s.Slot, s.Eager, s.Grace})
	if err != nil && !errors.Is(err, syscall.EPIPE) { // a guard that is gone shows by its missing report
		g.kill()
		_ = g.cmd.Wait()
		g.close()
		return nil, fmt.Errorf("tell guard: %w", err)
	}
	return g, nil
}

// pipes makes the pipes between us and the guard; theirs are the guard's ends.
func (g *guarded) pipes() (theirs []*os.File, err error) {
	for _, p := range []struct {
		ours   **os.File
		writes bool // the guard writes
	}{{&g.control, false}, {&g.status, true}, {&g.stdout.File, true}, {&g.stderr.File, true}} {
		r, w, err := os.Pipe()
		if err != nil {
			return theirs, err
		}
		if p.writes {
			r, w = w, r
		}
		*p.ours, theirs = w, append(theirs, r)
	}
	return theirs, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// close gives back all that is ours.
func (g *guarded) close() {
	closeAll(g.control, g.status, g.stdout.File, g.stderr.File)
	if g.tail != nil {
		closeAll(g.tail.file)
	}
}

// kill kills the guard's whole group. The guard hasn't been waited for, so its
// number is still its own.
func (g *guarded) kill() { _ = syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL) }

// wait sees the command through to its end.
func (g *guarded) wait(ctx context.Context, s Spec) error {
	defer g.close()
	said := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(g.status, 4<<10))
		said <- b
	}()
	read, refused := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(read)
		g.lines(ctx, s.Stdout, refused)
	}()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		g.keep()
	}()

	var cause error
	var last []byte
	select {
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case cause = <-refused:
	case last = <-said:
	}
	if cause != nil {
		last = g.stop(s, cause, said)
	}
	// What a guard that was killed itself has left of its group.
	g.kill()
	_ = g.cmd.Wait() // it says in its report what there is to say
	g.stdout.end()
	g.stderr.end()
	<-read
	<-kept
	if cause == nil {
		select {
		case cause = <-refused:
		default:
		}
	}
	return verdict(cause, last)
}

// verdict is what Command returns of a guard's last word.
func verdict(cause error, last []byte) error {
	var r report
	told := json.Unmarshal(last, &r) == nil
	switch {
	case told && r.Left:
		return errors.Join(cause, ErrLeft)
	case cause != nil:
		return cause
	case !told:
		return ErrGuard
	case r.Errno != 0:
		return fmt.Errorf("run command: %w", r.Errno)
	case r.Exit != Exit{}:
		return &r.Exit
	}
	return nil
}

// stop has the guard end the command, and returns its last word. A guard that
// doesn't do it in time was stopped or starved itself, and is killed.
func (g *guarded) stop(s Spec, cause error, said <-chan []byte) []byte {
	grace := s.Grace
	if s.NoGrace != nil && s.NoGrace(cause) {
		grace = 0
		_ = g.control.Close()
	} else {
		select {
		case last := <-said:
			return last
		case <-g.stdout.heard:
		case <-time.After(time.Until(g.started.Add(deafTime))):
		}
		_ = g.control.SetWriteDeadline(time.Now().Add(sweepTime))
		_, _ = g.control.Write([]byte{stop}) // if nobody reads it the guard has ended
	}
	late := time.NewTimer(grace + sweepTime + sweepTime/2)
	defer late.Stop()
	select {
	case last := <-said:
		return last
	case <-late.C:
	}
	g.kill()
	_ = g.status.SetReadDeadline(time.Now().Add(sweepTime))
	return <-said
}

// lines gives fn the command's lines until it refuses one or ctx ends; the rest is
// read and left out, so that the command doesn't wait for a reader.
func (g *guarded) lines(ctx context.Context, fn func([]byte) error, refused chan<- error) {
	if fn != nil {
		err := eachLine(g.stdout, func(line []byte) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fn(line)
		})
		if err != nil {
			refused <- err
		}
	}
	_, _ = io.Copy(io.Discard, g.stdout)
}

// keep writes what comes on standard error to its file; where that fails, the rest
// is left out.
func (g *guarded) keep() {
	if g.tail != nil {
		_, _ = io.Copy(g.tail, g.stderr)
	}
	_, _ = io.Copy(io.Discard, g.stderr)
}
