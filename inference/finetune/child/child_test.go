package child_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"freehold/inference/finetune/child"
)

// output runs a command and returns what it printed.
func output(t *testing.T, s child.Spec) string {
	t.Helper()
	var out bytes.Buffer
	s.Stdout = func(line []byte) error {
		out.Write(line)
		out.WriteByte('\n')
		return nil
	}
	if err := child.Command(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCommand(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := shell(`pwd; echo "$1" "$NAME"; umask; printf 'no end'; echo oops >&2`, "NAME=a b", "NAME=c\xffd")
	s.Args = append(s.Args, "sh", "x y")
	s.Dir, s.StderrFile = dir, filepath.Join(dir, "stderr")
	if got, want := output(t, s), dir+"\nx y c\xffd\n0077\nno end\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if b, err := os.ReadFile(s.StderrFile); err != nil || string(b) != "oops\n" {
		t.Errorf("standard error: %q, %v", b, err)
	}
	if info, err := os.Stat(s.StderrFile); err != nil || info.Mode() != 0o600 {
		t.Errorf("its file: %v, %v", info, err)
	}
}

func TestExit(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]child.Exit{
		"exit 3":      {Code: 3},
		"kill -9 $$":  {Code: -1, Signal: syscall.SIGKILL},
		"kill -15 $$": {Code: -1, Signal: syscall.SIGTERM},
	} {
		err := child.Command(t.Context(), shell(script))
		if got, ok := errors.AsType[*child.Exit](err); !ok || *got != want {
			t.Errorf("%s: %v, want %+v", script, err, want)
		}
	}
}

func TestCommandThatCannotStart(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := child.Command(t.Context(), child.Spec{Path: "/no/such/program"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := child.Command(t.Context(), child.Spec{Path: plain}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("not executable: %v", err)
	}
	for name, s := range map[string]child.Spec{
		"relative path":   {Path: "sh"},
		"relative folder": {Path: "/bin/sh", Dir: "x"},
		"cores":           {Path: "/bin/sh", Cores: -1},
	} {
		if err := child.Command(t.Context(), s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	if err := child.Command(ctx, shell("true")); !errors.Is(err, errStop) {
		t.Errorf("after the end: %v", err)
	}
}

var errStop = errors.New("stop")

func TestEnvironmentIsClean(t *testing.T) {
	t.Parallel()
	s := child.Spec{Path: "/usr/bin/env", Env: []string{"FREEHOLD_JOB=/job.json", "HOME=/elsewhere", "bad", "=worse"}}
	var names []string
	for line := range strings.Lines(output(t, s)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		names = append(names, name)
		if line == "HOME="+os.Getenv("HOME")+"\n" {
			t.Error("what was asked for doesn't win")
		}
	}
	for _, name := range names {
		if !slices.Contains([]string{"PATH", "HOME", "LANG", "TMPDIR", "FREEHOLD_JOB"}, name) {
			t.Errorf("the command sees %s", name)
		}
	}
	if !slices.Contains(names, "PATH") || !slices.Contains(names, "FREEHOLD_JOB") {
		t.Errorf("the command sees only %q", names)
	}
}

func TestNoDescriptorIsInherited(t *testing.T) {
	t.Parallel()
	leaky, err := syscall.Dup(1) // not closed by exec
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(leaky) }()
	// The listing itself has one open.
	got := strings.Fields(output(t, shell("ls /dev/fd/")))
	if len(got) > 4 || !slices.Contains(got, "2") {
		t.Errorf("descriptors %q", got)
	}
}

func TestWhatIsLeftRunningIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := tree(dir)
	s.Args[1] = strings.Replace(s.Args[1], "while :; do wait; done",
		`for f in plain deaf away orphan; do while ! [ -e "$DIR/$f" ]; do sleep 0.01; done; done`, 1)
	began := time.Now()
	if err := child.Command(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	gone(t, numbers(t, dir), 0)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script   string
		grace    time.Duration
		noGrace  bool
		min, max time.Duration
		said     bool // it had its say
	}{
		"ends by itself":     {`trap 'touch "$DIR/said"; exit 0' TERM; echo up; while :; do sleep 0.02; done`, 5 * time.Second, false, 0, 9 * time.Second, true},
		"killed at once":     {`trap 'touch "$DIR/said"; exit 0' TERM; echo up; while :; do sleep 0.02; done`, 20 * time.Second, true, 0, 9 * time.Second, false},
		"never ends":         {`trap '' TERM; echo up; while :; do sleep 0.02; done`, 200 * time.Millisecond, false, 200 * time.Millisecond, 9 * time.Second, false},
		"ends before others": {`(trap 'sleep 0.1; touch "$DIR/said"; exit' TERM; echo up; while :; do sleep 0.02; done) & wait`, 5 * time.Second, false, 0, 9 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := shell(c.script, "DIR="+dir)
			s.Grace, s.NoGrace = c.grace, func(cause error) bool { return c.noGrace && errors.Is(cause, errStop) }
			ctx, cancel := context.WithCancelCause(t.Context())
			var once sync.Once
			var began time.Time
			s.Stdout = func([]byte) error {
				once.Do(func() { began = time.Now(); cancel(errStop) })
				return nil
			}
			if err := child.Command(ctx, s); !errors.Is(err, errStop) {
				t.Errorf("%v, want the context's cause", err)
			}
			if took := time.Since(began); took < c.min || took > c.max {
				t.Errorf("it took %v", took)
			}
			if _, err := os.Stat(filepath.Join(dir, "said")); (err == nil) != c.said {
				t.Errorf("had its say: %v, want %v", err == nil, c.said)
			}
		})
	}
}

func TestStdoutsErrorEndsIt(t *testing.T) {
	t.Parallel()
	s := shell("while :; do echo y; done")
	lines := 0
	s.Stdout = func([]byte) error {
		if lines++; lines == 3 {
			return errStop
		}
		return nil
	}
	if err := child.Command(t.Context(), s); !errors.Is(err, errStop) || lines != 3 {
		t.Errorf("%v after %d lines", err, lines)
	}
	// The last line's error is the command's, too, which has ended by then.
	s = shell("echo last")
	s.Stdout = func([]byte) error { time.Sleep(50 * time.Millisecond); return errStop }
	if err := child.Command(t.Context(), s); !errors.Is(err, errStop) {
		t.Errorf("last line: %v", err)
	}
}

func TestFlood(t *testing.T) {
	t.Parallel()
	s := shell(`head -c 3000000 /dev/zero | tr '\0' x; echo; yes short | head -n 100000; echo last;
		head -c 5000000 /dev/zero >&2; echo end >&2`)
	s.StderrFile = filepath.Join(t.TempDir(), "stderr")
	lines, last := 0, ""
	s.Stdout = func(line []byte) error {
		lines++
		last = string(line)
		return nil
	}
	if err := child.Command(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if lines != 100001 || last != "last" {
		t.Errorf("%d lines, the last %.20q", lines, last)
	}
	b, err := os.ReadFile(s.StderrFile)
	if err != nil || len(b) > 1<<20 || len(b) < 1<<19 || !bytes.HasSuffix(b, []byte("end\n")) {
		t.Errorf("%d bytes of standard error, %v", len(b), err)
	}
}

// What is printed last isn't lost when its reader is slower than the command.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s := shell("seq 1 40")
	var got []string
	s.Stdout = func(line []byte) error {
		time.Sleep(5 * time.Millisecond)
		got = append(got, string(line))
		return nil
	}
	if err := child.Command(t.Context(), s); err != nil || len(got) != 40 || got[39] != "40" {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

// A command that has just begun isn't told to end before it can understand that.
func TestCancelledEarly(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"prints when it understands": `sleep 0.3; trap 'touch "$DIR/said"; exit' TERM; echo up; while :; do sleep 0.02; done`,
		"prints nothing":             `sleep 0.1; trap 'touch "$DIR/said"; exit' TERM; while :; do sleep 0.02; done`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := shell(script, "DIR="+dir)
			s.Grace, s.Eager = 5*time.Second, true
			ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errStop)
			defer cancel()
			if err := child.Command(ctx, s); !errors.Is(err, errStop) {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "said")); err != nil {
				t.Error("it was killed before it understood")
			}
		})
	}
}
