package child_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"freehold/inference/finetune/child"
)

// Nothing of a command outlives a worker that is killed.
func TestWorkerIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	worker := exec.Command(self, "work", dir)
	worker.Dir = dir
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	pids := numbers(t, dir)
	guard := parent(t, pids[len(pids)-1])
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = worker.Wait()
	gone(t, pids, 3*time.Second)
	gone(t, []int{guard}, 2*time.Second)
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "ppid=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	ppid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}

// A guard that is killed leaves nothing of the group.
func TestGuardIsKilled(t *testing.T) {
	t.Parallel()
	s := shell(`trap '' TERM; sleep 60 & echo $! $$ $PPID; wait`)
	var pids []int
	s.Stdout = func(line []byte) error {
		for _, f := range strings.Fields(string(line)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				return err
			}
			pids = append(pids, pid)
		}
		return syscall.Kill(pids[2], syscall.SIGKILL)
	}
	if err := child.Command(t.Context(), s); !errors.Is(err, child.ErrGuard) {
		t.Errorf("%v", err)
	}
	gone(t, pids, 2*time.Second)
}

// A guard that doesn't hear its worker is killed itself.
func TestGuardIsStopped(t *testing.T) {
	t.Parallel()
	s := shell(`echo $PPID; while :; do sleep 0.05; done`)
	s.Grace = 10 * time.Millisecond
	ctx, cancel := context.WithCancelCause(t.Context())
	var began time.Time
	s.Stdout = func(line []byte) error {
		pid, err := strconv.Atoi(string(line))
		if err != nil {
			return err
		}
		began = time.Now()
		cancel(errStop)
		return syscall.Kill(pid, syscall.SIGSTOP)
	}
	if err := child.Command(ctx, s); !errors.Is(err, errStop) {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// Who ends the guard ends its command, politely.
func TestGuardIsTold(t *testing.T) {
	t.Parallel()
	s := shell(`trap 'echo bye; exit 7' TERM; kill -TERM $PPID; while :; do sleep 0.02; done`)
	var said string
	s.Stdout = func(line []byte) error { said += string(line); return nil }
	s.Grace = 5 * time.Second
	err := child.Command(t.Context(), s)
	if exit, ok := errors.AsType[*child.Exit](err); !ok || exit.Code != 7 || said != "bye" {
		t.Errorf("%v, said %q", err, said)
	}
}

// A person who starts a guard is told so, and nobody's group is killed.
func TestGuardByHand(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(self, "guard", "x").CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 || !strings.Contains(string(out), "workers") {
		t.Errorf("%v: %s", err, out)
	}
}
