package rest_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"freehold/cmd/freehold/rest"
)

// Streams that a shutdown lets go on end by themselves, and the shutdown with the
// last of them: a connection that never said a word doesn't hold it up.
func TestShutdownLetsStreams(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	l := &logs{}
	d, err := rest.New(rest.Config{Title: "test", Logger: slog.New(slog.NewTextHandler(l, nil))})
	if err != nil {
		t.Fatal(err)
	}
	rest.Mount(d, open, []rest.Route[nobody]{stream("/long", func(ctx context.Context, send sendFunc) error {
		_ = send("first")
		select {
		case <-finish:
			return send("last")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})})
	d.LetStreams(time.Minute)
	b := serve(t, d, l)
	resp := b.begin(t.Context(), "/long")
	idle, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	stopped := make(chan error, 1)
	started := time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		stopped <- d.Shutdown(ctx)
	}()
	time.Sleep(800 * time.Millisecond) // longer than streams are let without being told
	close(finish)
	if got := strings.Join(lines(t, resp.Body), "\n"); !strings.Contains(got, `"last"`) || !strings.Contains(got, "[DONE]") {
		t.Errorf("the stream was %q", got)
	}
	if err := <-stopped; err != nil || time.Since(started) > 30*time.Second {
		t.Errorf("shutdown: %v after %v", err, time.Since(started))
	}
}
