package dump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	// lockWait is how long pg_dump waits for a table, in milliseconds.
	lockWait = 5000
	// waitDelay is how long a program may take to end once it was told to.
	waitDelay = 2 * time.Second
)

// Out writes a dump of the database, in the custom format and not compressed, to w.
// It holds definitions, grants and rows, and neither owners nor what would act on
// other servers. options are pg_dump's own, such as --snapshot. ErrFailed; w's own
// error; ctx's own.
func (t Tools) Out(ctx context.Context, from Database, w io.Writer, options ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dump := t.dumping(ctx, from, options)
	// Not the program's to give up on: what it can't write it would only call a broken pipe.
	out := &sink{w: w, cancel: cancel}
	dump.cmd.Stdout = out
	err := <-dump.run()
	if out.err != nil {
		return out.err
	}
	return dump.why(ctx, err)
}

// sink keeps the error of the writer beneath, and ends the program for it.
type sink struct {
	w      io.Writer
	cancel context.CancelFunc
	err    error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil && s.err == nil {
		s.err = err
		s.cancel()
	}
	return n, err
}

// In restores a dump in the custom format into the database, as whoever logs in.
// options are pg_restore's own. What was restored before an error stays. ErrFailed;
// r's own error; ctx's own.
func (t Tools) In(ctx context.Context, to Database, r io.Reader, options ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	restore := t.restoring(ctx, to, options)
	in := &source{r: r}
	restore.cmd.Stdin = in
	err := <-restore.run()
	if in.err != nil {
		return in.err
	}
	if err = restore.why(ctx, err); err != nil {
		return err
	}
	// The program stops where its archive ends; what r says behind that counts too.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	return nil
}

// source keeps the error of the reader beneath.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Pipe copies one database into another, by both programs. Either's end ends the
// other, and so does ctx. options are pg_dump's. ErrFailed; ctx's own.
func (t Tools) Pipe(ctx context.Context, from, to Database, options ...string) error {
	either, cancel := context.WithCancel(ctx)
	defer cancel()
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	dump, restore := t.dumping(either, from, options), t.restoring(either, to, nil)
	dump.cmd.Stdout, restore.cmd.Stdin = in, out
	// The children have their ends: only so does one notice that the other is gone.
	dump.begun = func() { _ = in.Close() }
	restore.begun = func() { _ = out.Close() }
	restored, dumped := restore.run(), dump.run()
	back := <-restored
	if back != nil && !restore.harmless() {
		cancel() // nobody reads what would be dumped
	}
	there := <-dumped
	switch {
	case there == nil && (back == nil || restore.harmless()):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	// When one fails the other does, for that alone: who says why is asked first.
	for _, one := range []*program{dump, restore} {
		if why := one.said.why(); why != "" {
			return fmt.Errorf("%w: %s: %s", ErrFailed, one.name, why)
		}
	}
	return fmt.Errorf("%w: pg_dump or pg_restore ended with an error that may quote rows, and isn't shown", ErrFailed)
}

func (t Tools) dumping(ctx context.Context, from Database, options []string) *program {
	// What a copy has no use for may want rights, or act on other servers.
	return newProgram(ctx, "pg_dump", t.Dump, from, append([]string{
		"--format=custom", "--compress=0", "--no-owner", "--no-comments", "--no-publications", "--no-subscriptions",
		"--no-security-labels", "--no-tablespaces", "--no-password", "--lock-wait-timeout=" + strconv.Itoa(lockWait),
	}, options...))
}

func (t Tools) restoring(ctx context.Context, to Database, options []string) *program {
	return newProgram(ctx, "pg_restore", t.Restore, to, append([]string{
		"--format=custom", "--no-owner", "--no-password", "--dbname=" + to.Name,
	}, options...))
}

// program is one run of pg_dump or pg_restore.
type program struct {
	name  string
	cmd   *exec.Cmd
	said  firstBytes
	begun func() // called once it has its ends of the pipes, or never will
}

func newProgram(ctx context.Context, name, path string, at Database, args []string) *program {
	p := &program{name: name, cmd: exec.CommandContext(ctx, path, args...), begun: func() {}}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "LC_") { // nothing of the operator's own may point elsewhere
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(append(p.cmd.Env, at.Env...), "PGDATABASE="+at.Name, "LC_ALL=C")
	p.cmd.WaitDelay = waitDelay
	p.cmd.Stderr = &p.said
	endWithParent(p.cmd)
	return p
}

// run starts the program, and tells its end. Linux ends it when the thread that
// started it does: that thread waits.
func (p *program) run() <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		p.begun()
		if err == nil {
			err = p.cmd.Wait()
		}
		done <- err
	}()
	return done
}

// harmless reports whether all that it complained of is.
func (p *program) harmless() bool { return p.name == "pg_restore" && !p.said.serious() }

// why is the program's error in words that can be shown.
func (p *program) why(ctx context.Context, err error) error {
	switch {
	case err == nil, ctx.Err() == nil && p.harmless():
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if why := p.said.why(); why != "" {
		return fmt.Errorf("%w: %s: %s", ErrFailed, p.name, why)
	}
	if _, ended := errors.AsType[*exec.ExitError](err); !ended {
		return fmt.Errorf("%w: %s: %w", ErrFailed, p.name, err)
	}
	return fmt.Errorf("%w: %s ended with an error that may quote rows, and isn't shown", ErrFailed, p.name)
}
