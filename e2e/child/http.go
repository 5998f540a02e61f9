package child

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"freehold/migrations/localpg"
)

// FreeAddr returns a loopback address whose port was free a moment ago, for
// programs that must be told where to listen.
func FreeAddr() string { return fmt.Sprintf("127.0.0.1:%d", localpg.FreePort(0)) }

// WaitReady asks the URL until it answers 200. It fails the test when the child
// ends before that, or after max. A nil client is a plain one.
func (p *Process) WaitReady(t testing.TB, client *http.Client, url string, max time.Duration) {
	t.Helper()
	if client == nil {
		client = &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
	}
	ctx, cancel := context.WithTimeout(t.Context(), max)
	defer cancel()
	last := "no answer"
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
			last = res.Status
		}
		select {
		case <-p.done:
			t.Fatalf("the child ended, with status %d, before %s was ready", p.state.ExitCode(), url)
		case <-ctx.Done():
			t.Fatalf("%s not ready within %v: %s", url, max, last)
		case <-time.After(25 * time.Millisecond):
		}
	}
}
