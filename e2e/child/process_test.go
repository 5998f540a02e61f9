package child_test

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"freehold/e2e/child"
)

// orphanMaker is set in a copy of this test binary that starts a child and is
// then killed.
const orphanMaker = "CHILD_TEST_ORPHAN_MAKER"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(script string) child.Config {
	return child.Config{Path: "/bin/sh", Args: []string{"-c", script}}
}

func TestRun(t *testing.T) {
	t.Parallel()
	cfg := shell(`cat; echo "$GREETING, $0" >&2; exit 3`)
	cfg.Env = []string{"GREETING=hello"}
	cfg.Stdin = "from the test"
	got := child.Run(t, cfg, 5*time.Second)
	if want := (child.Result{Code: 3, Stdout: "from the test", Stderr: "hello, /bin/sh\n"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEnvironmentIsBare(t *testing.T) {
	t.Setenv("FREEHOLD_CATALOG_URL", "of whoever runs the test")
	got := child.Run(t, shell("env"), 5*time.Second)
	if strings.Contains(got.Stdout, "FREEHOLD") || !strings.Contains(got.Stdout, "PATH=") {
		t.Errorf("the child got:\n%s", got.Stdout)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	p := child.Start(t, shell(`trap 'echo bye; exit 7' TERM; echo pid $$; while :; do sleep 0.01; done`))
	line := p.Stdout.WaitFor(t, "pid", 5*time.Second)
	if want := "pid " + strconv.Itoa(p.PID()); line != want {
		t.Errorf("got %q, want %q", line, want)
	}
	if code := p.Stop(t); code != 7 {
		t.Errorf("exit status %d, want 7", code)
	}
	p.Stdout.WaitFor(t, "bye", time.Second)
	p.Signal(t, syscall.SIGTERM) // to nobody, without harm
}

func TestKillReachesDescendants(t *testing.T) {
	t.Parallel()
	p := child.Start(t, shell(`sleep 60 & echo $!; wait`))
	descendant := pid(t, p.Stdout.WaitFor(t, "", 5*time.Second))
	p.Kill()
	if code := p.Wait(t, 5*time.Second); code != -1 {
		t.Errorf("exit status %d, want -1", code)
	}
	gone(t, descendant)
}

func TestNoOrphansOfAKilledTest(t *testing.T) {
	t.Parallel()
	parent := child.Start(t, child.Config{
		Path: os.Args[0],
		Args: []string{"-test.run=^TestOrphanMaker$", "-test.v"},
		Env:  []string{orphanMaker + "=1"},
	})
	_, number, _ := strings.Cut(parent.Stdout.WaitFor(t, "child ", 10*time.Second), "child ")
	parent.Signal(t, syscall.SIGKILL)
	gone(t, pid(t, number))
}

// TestOrphanMaker is the body of the copy that TestNoOrphansOfAKilledTest kills.
func TestOrphanMaker(t *testing.T) {
	t.Parallel()
	if os.Getenv(orphanMaker) == "" {
		return
	}
	p := child.Start(t, shell("exec sleep 60"))
	os.Stdout.WriteString("child " + strconv.Itoa(p.PID()) + "\n")
	p.Wait(t, time.Minute)
}

func TestWaitReady(t *testing.T) {
	t.Parallel()
	s3 := child.StartS3(t)
	s3.Process.WaitReady(t, http.DefaultClient, s3.Endpoint+"/healthz", time.Second)
	if code := s3.Process.Stop(t); code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
}

func pid(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// gone waits until a process no longer runs. One that nobody has reaped yet
// counts as gone.
func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d still runs", pid)
}
