package app_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

// drops is a fleet that takes as long as the test lets it.
type drops struct {
	mu     sync.Mutex // guards called
	called []string
	let    chan struct{}
}

func (d *drops) drop(ctx context.Context, server, node string, _ time.Duration) (bool, error) {
	d.mu.Lock()
	d.called = append(d.called, server+" "+node)
	d.mu.Unlock()
	select {
	case <-d.let:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (d *drops) until(t *testing.T, want ...string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		got := slices.Sorted(slices.Values(d.called))
		d.mu.Unlock()
		if slices.Equal(got, want) {
			return
		}
		if len(got) > len(want) || time.Now().After(deadline) {
			t.Fatalf("dropped %q, want %q", got, want)
		}
	}
}

// Silent nodes' shares are returned beside the asking, one attempt at a time a
// server, and none after close.
func TestSilentShares(t *testing.T) {
	t.Parallel()
	silent := map[string][]string{"a": {"n1", "n2"}, "b": {"n1"}, "c": nil}
	d := &drops{let: make(chan struct{})}
	s := app.NewShares(func(_ context.Context, ask catalog.ShareAsk) (catalog.Share, error) {
		if ask.Server == "down" {
			return catalog.Share{Silent: []string{"n1"}}, errors.New("no answer")
		}
		return catalog.Share{Granted: 7, Silent: silent[ask.Server]}, nil
	}, d.drop)
	for _, server := range []string{"a", "a", "a", "b", "c", "down"} {
		got, err := s.Share(t.Context(), catalog.ShareAsk{Server: server})
		if (err != nil) != (server == "down") || err == nil && got.Granted != 7 {
			t.Errorf("%s: %+v %v", server, got, err)
		}
	}
	d.until(t, "a n1", "b n1")
	d.let <- struct{}{}
	d.let <- struct{}{}
	d.until(t, "a n1", "a n2", "b n1")

	closed := make(chan struct{})
	go func() {
		s.Close()
		close(closed)
	}()
	select {
	case <-closed: // what was under way ended with it
	case <-time.After(5 * time.Second):
		t.Fatal("close doesn't end a drop")
	}
	if _, err := s.Share(t.Context(), catalog.ShareAsk{Server: "b"}); err != nil {
		t.Error(err)
	}
	d.until(t, "a n1", "a n2", "b n1")
}
