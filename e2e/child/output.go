package child

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// Output is what a child has printed on one of its streams so far. It may be
// read while the child runs.
type Output struct {
	mu     sync.Mutex
	text   strings.Builder // guarded by mu
	ended  bool            // guarded by mu
	change chan struct{}   // guarded by mu; closed and replaced at each change
}

func newOutput() *Output { return &Output{change: make(chan struct{})} }

// Write implements io.Writer for the child's pipe.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	close(o.change)
	o.change = make(chan struct{})
	return len(p), nil
}

func (o *Output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	close(o.change)
	o.change = make(chan struct{})
}

// String returns all that was printed so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// WaitFor waits until a whole line that holds the part has been printed, and
// returns the first such line without its end. It fails the test when the child
// ends before that, or after max.
func (o *Output) WaitFor(t testing.TB, part string, max time.Duration) string {
	t.Helper()
	timeout := time.After(max)
	for {
		o.mu.Lock()
		text, ended, change := o.text.String(), o.ended, o.change
		o.mu.Unlock()
		for line := range strings.Lines(text) {
			whole, terminated := strings.CutSuffix(line, "\n")
			if (terminated || ended) && strings.Contains(whole, part) {
				return whole
			}
		}
		if ended {
			t.Fatalf("the child ended without printing %q", part)
		}
		select {
		case <-change:
		case <-timeout:
			t.Fatalf("%q not printed within %v", part, max)
		}
	}
}
