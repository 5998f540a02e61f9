package child

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Config says what to run.
type Config struct {
	// Path is the program. Required.
	Path string
	Args []string
	// Env is added to PATH, HOME and TMPDIR, which is all that a child gets of
	// the test's environment: settings of whoever runs the test don't leak in.
	Env []string
	// Dir is the working folder, by default a new temporary one.
	Dir string
	// Stdin is what the child reads; the end of file follows.
	Stdin string
	// StopTimeout bounds the wait after SIGTERM, by default 10 s.
	StopTimeout time.Duration
}

// Process is a running child. Its output is kept.
type Process struct {
	Stdout, Stderr *Output

	pid         int
	stopTimeout time.Duration
	done        chan struct{} // closed when the child has been reaped
	state       *os.ProcessState
}

// Start runs a child in a process group of its own. The group is killed and the
// child reaped when the test ends; a failed test logs what it printed.
func Start(t testing.TB, cfg Config) *Process {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 10 * time.Second
	}
	p := &Process{
		Stdout:      newOutput(),
		Stderr:      newOutput(),
		stopTimeout: cfg.StopTimeout,
		done:        make(chan struct{}),
	}
	started := make(chan error, 1)
	go p.run(cfg, started)
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", cfg.Path, err)
	}
	t.Cleanup(func() {
		p.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s %q printed:\n%s%s", cfg.Path, cfg.Args, p.Stdout, p.Stderr)
		}
	})
	return p
}

// run starts the child and reaps it, on one thread: the kernel kills the child
// when the thread that started it ends.
func (p *Process) run(cfg Config, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	cmd := exec.Command(cfg.Path, cfg.Args...)
	cmd.Dir = cfg.Dir
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, cfg.Env...)
	if cfg.Stdin != "" {
		cmd.Stdin = strings.NewReader(cfg.Stdin)
	}
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	cmd.SysProcAttr = ownGroup()
	// A grandchild that holds the pipes open must not keep the test waiting.
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Start()
	if err == nil {
		p.pid = cmd.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	// A bad exit status is the caller's to judge.
	_ = cmd.Wait()
	p.state = cmd.ProcessState
	p.Stdout.end()
	p.Stderr.end()
}

// PID returns the child's process id, which is its group's too.
func (p *Process) PID() int { return p.pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the child alone, as `kill` does. A child that has
// ended is left in peace.
func (p *Process) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	p.send(t, p.pid, sig)
}

// SignalGroup sends a signal to the child and its descendants in its group, as a
// terminal's Ctrl-C does.
func (p *Process) SignalGroup(t testing.TB, sig syscall.Signal) {
	t.Helper()
	p.send(t, -p.pid, sig)
}

func (p *Process) send(t testing.TB, pid int, sig syscall.Signal) {
	t.Helper()
	select {
	case <-p.done: // the id may be somebody else's by now
		return
	default:
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("send %v: %v", sig, err)
	}
}

// Kill sends SIGKILL to the child's whole group, without waiting. Members that
// outlive the child are killed too.
func (p *Process) Kill() {
	// The only other answer is that the group has no member left.
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
}

// Wait waits for the child's end and returns its exit status, or -1 when a
// signal ended it. It fails the test when that takes longer than max.
func (p *Process) Wait(t testing.TB, max time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.state.ExitCode()
	case <-time.After(max):
		t.Fatalf("still running after %v", max)
		return 0
	}
}

// Stop sends SIGTERM and waits for the end, as a service manager does.
func (p *Process) Stop(t testing.TB) int {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	return p.Wait(t, p.stopTimeout)
}

// Result is what a finished child left.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs a child to its end, within max, and returns what it left. Whether its
// status is the right one is for the caller to say.
func Run(t testing.TB, cfg Config, max time.Duration) Result {
	t.Helper()
	p := Start(t, cfg)
	code := p.Wait(t, max)
	return Result{Code: code, Stdout: p.Stdout.String(), Stderr: p.Stderr.String()}
}
