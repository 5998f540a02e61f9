package cli_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"freehold/cmd/freehold/cli"
)

// terminal is a pseudo-terminal: what the command sees, and who sits at it.
type terminal struct {
	t            *testing.T
	person, side *os.File

	mu    sync.Mutex // guards shown
	shown bytes.Buffer
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	side, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(side.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 60}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, person: person, side: side}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := person.Read(buf)
			if err != nil {
				return // the last writer has gone
			}
			term.mu.Lock()
			term.shown.Write(buf[:n])
			term.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = side.Close()
		<-ended
		_ = person.Close()
	})
	return term
}

func (term *terminal) modes() unix.Termios {
	term.t.Helper()
	m, err := unix.IoctlGetTermios(int(term.side.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return *m
}

func (term *terminal) until(what string) string {
	term.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		term.mu.Lock()
		shown := term.shown.String()
		term.mu.Unlock()
		if strings.Contains(shown, what) {
			return shown
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("%q was never shown: %q", what, shown)
		}
	}
}

// At a terminal it is drawn again and again, until q or Ctrl-C, and the terminal
// is as it was.
func TestRouterTopLive(t *testing.T) { //nolint:paralleltest // the environment is the process's
	down := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-down:
			http.Error(w, "down", http.StatusBadGateway)
		default:
			busyNode(w, r)
		}
	}))
	defer srv.Close()
	t.Setenv("FREEHOLD_ADMIN_URL", srv.URL)
	t.Setenv("FREEHOLD_ADMIN_TOKEN", token)
	for _, key := range []string{"xq", "\x03"} {
		term := openTerminal(t)
		before := term.modes()
		var stderr bytes.Buffer
		status := make(chan int, 1)
		go func() {
			status <- cli.Run(t.Context(), "test", []string{"router", "top"}, term.side, term.side, &stderr)
		}()
		shown := term.until("tenant-01")
		if during := term.modes(); during.Lflag&unix.ECHO != 0 {
			t.Error("keys are shown")
		}
		// Twelve lines: what there is no room for isn't drawn, nor what is too wide.
		if strings.Contains(shown, "tenant-20") || strings.Contains(shown, "REFUSED") {
			t.Errorf("drawn over the edge: %q", shown)
		}
		if key == "\x03" {
			close(down)
			term.until("what answers there")
		}
		if _, err := term.person.WriteString(key); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-status:
			if got != 0 || stderr.Len() > 0 {
				t.Errorf("%q: status %d, %s", key, got, stderr.String())
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q doesn't end it", key)
		}
		term.until("\x1b[?25h")
		if after := term.modes(); after != before {
			t.Errorf("the terminal isn't as it was: %+v, before %+v", after, before)
		}
	}
}

// How far a rollout is stands on stderr, at a terminal, and its end on stdout.
func TestRolloutScreen(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	b.store()
	b.run("", 0, "tenant", "create", "acme")
	dir := product(t, map[string]string{"00001_notes.sql": notes})
	term := openTerminal(t)
	var stdout bytes.Buffer
	if got := cli.Run(t.Context(), "test", []string{"migrate", "up", "--dir", dir}, term.side, &stdout, term.side); got != 0 {
		t.Errorf("status %d", got)
	}
	term.until("rollout ")
	term.until("] 100%")
	if stdout.String() != "1 of 1 tenant at version 1\n" {
		t.Errorf("said %q", stdout.String())
	}

	// Of one that has ended there is one picture, without waiting for a key.
	term = openTerminal(t)
	var stderr bytes.Buffer
	if got := cli.Run(t.Context(), "test", []string{"migrate", "status", "--watch"}, term.side, term.side, &stderr); got != 0 || stderr.Len() > 0 {
		t.Errorf("status %d, %s", got, stderr.String())
	}
	term.until("done: 1 tenant at version 1")
	term.until("\x1b[?25h")
}
