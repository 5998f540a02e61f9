package cli_test

import (
	"bufio"
	"errors"
	"os/exec"
	"syscall"
	"testing"

	"freehold/cmd/freehold/cli"
)

// Interrupts are the child's business, however many; SIGTERM ends the child.
// Signals are the whole process's, so this runs beside no other test.
func TestSignalsBesideAChild(t *testing.T) { //nolint:paralleltest // see above
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		status int // -1: ended by the signal
	}{{"interrupts", syscall.SIGINT, 7}, {"termination", syscall.SIGTERM, -1}} {
		t.Run(c.name, func(t *testing.T) { //nolint:paralleltest // see above
			child := exec.CommandContext(t.Context(), "sh", "-c", "echo ready; read line; exit 7")
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- cli.Attended(child) }()
			line := make(chan error, 1)
			go func() {
				_, err := bufio.NewReader(out).ReadString('\n')
				line <- err
			}()
			if err := <-line; err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := syscall.Kill(syscall.Getpid(), c.signal); err != nil {
					t.Fatal(err)
				}
			}
			if c.status > 0 {
				_, _ = in.Write([]byte("go on\n"))
			}
			var exit *exec.ExitError
			if err := <-done; !errors.As(err, &exit) || exit.ExitCode() != c.status {
				t.Errorf("ended with %v, want status %d", err, c.status)
			}
		})
	}
}
