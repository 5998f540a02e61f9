package child

import (
	"bufio"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// guardArg is the first argument of a process that is a guard.
const guardArg = "guard"

// Descriptors that a guard has from its worker.
const (
	controlFD = 3
	statusFD  = 4
)

// Guard is called first thing in main and in each TestMain of a binary that uses
// Command. In a guard it does the guard's work and never returns; else it does
// nothing.
func Guard() {
	if len(os.Args) > 1 && os.Args[1] == guardArg {
		guard()
	}
}

// guard runs on a thread that it keeps: the command inherits this one's low
// priority, and dies with it. What watches runs on others, which have lost nothing.
func guard() {
	runtime.LockOSThread()
	control, status := os.NewFile(controlFD, "control"), os.NewFile(statusFD, "status")
	if !isPipe(control) || !isPipe(status) || syscall.Getpgrp() != os.Getpid() {
		fmt.Fprintln(os.Stderr, "freehold guard: workers start this, people don't")
		os.Exit(2)
	}
	closeOnExec()
	told := make(chan os.Signal, 1)
	// A command must not inherit that a signal is ignored, so it is heard instead.
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	words := bufio.NewReader(control)
	var o order
	if err := gob.NewDecoder(words).Decode(&o); err != nil {
		os.Exit(0) // the worker is gone already
	}
	w := &watch{grace: o.Grace, status: status, told: told, asked: make(chan bool, 2),
		ended: make(chan syscall.WaitStatus, 1), empty: make(chan struct{})}
	pid, err := run(o)
	if err != nil {
		w.leave(report{Errno: number(err)})
	}
	go w.listen(words)
	go w.reap(pid)
	go w.watch()
	select {} // watch ends the process
}

// run starts the command from this thread.
func run(o order) (pid int, err error) {
	syscall.Umask(0o077)
	// A dump of its memory would hold what it was given to read.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	adopt()
	if !o.Eager {
		yield()
	}
	confine(o.Cores, o.Slot)
	return syscall.ForkExec(o.Path, append([]string{o.Path}, o.Args...), &syscall.ProcAttr{
		Dir: o.Dir, Env: o.Env, Files: []uintptr{0, 1, 2}, Sys: bound(),
	})
}

func number(err error) syscall.Errno {
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		return n
	}
	return syscall.EINVAL
}

func isPipe(f *os.File) bool {
	if f == nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}

// closeOnExec keeps descriptors from the command that the worker may have got from
// its own parent, besides our own.
func closeOnExec() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		syscall.CloseOnExec(controlFD)
		syscall.CloseOnExec(statusFD)
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// watch is a guard at work.
type watch struct {
	grace  time.Duration
	status *os.File
	told   <-chan os.Signal
	asked  chan bool // true: with grace; false: the worker is gone
	ended  chan syscall.WaitStatus
	empty  chan struct{} // closed when no child is left
}

// listen passes on what the worker wants.
func (w *watch) listen(words *bufio.Reader) {
	for {
		b, err := words.ReadByte()
		if err != nil {
			w.asked <- false
			return
		}
		if b == stop {
			w.asked <- true
			_, err = words.ReadByte() // nothing more is said
			w.asked <- err == nil
			return
		}
	}
}

// reap waits for the command, and for whatever became ours when its parent died.
func (w *watch) reap(command int) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			close(w.empty)
			return
		case pid == command:
			w.ended <- status
		}
	}
}

// watch waits until the command has ended or must, and ends it.
func (w *watch) watch() {
	var last report
	var late <-chan time.Time
	polite := func() {
		if late == nil {
			late = time.After(w.grace)
			_ = syscall.Kill(0, syscall.SIGTERM) // our group; we only hear it
			hurryAll()
		}
	}
	ended, empty := w.ended, (chan struct{})(nil)
	for waiting := true; waiting; {
		select {
		case status := <-ended:
			last.Exit = exit(status)
			// Asked to end, the others of the group have their grace too.
			ended, empty, waiting = nil, w.empty, late != nil
		case <-empty:
			waiting = false
		case <-w.told:
			polite()
		case with := <-w.asked:
			if with {
				polite()
			} else {
				waiting = false
			}
		case <-late:
			waiting = false
		}
	}
	last.Left = !w.sweep()
	if ended != nil {
		select {
		case status := <-ended:
			last.Exit = exit(status)
		default:
			last.Exit = Exit{Code: -1, Signal: syscall.SIGKILL}
		}
	}
	w.leave(last)
}

// leave says the last word and ends the process, with its group.
func (w *watch) leave(last report) {
	b, _ := json.Marshal(last) // numbers alone
	_, _ = w.status.Write(b)   // the worker may be gone
	hurry(os.Getpid())
	_ = syscall.Kill(0, syscall.SIGKILL)
	os.Exit(0)
}

func exit(status syscall.WaitStatus) Exit {
	if status.Signaled() {
		return Exit{Code: -1, Signal: status.Signal()}
	}
	return Exit{Code: status.ExitStatus()}
}
