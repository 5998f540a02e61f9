package app_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/cmd/freehold/app"
	"freehold/inference/engine"
)

// An engine is made once, with its sealed key, stands behind a breaker, and leaves
// no connection open when its row is gone.
func TestEngines(t *testing.T) {
	t.Parallel()
	cat, _ := catalogtest.Open(t)
	cache := catalog.NewCache(cat, catalog.CacheConfig{NodeName: "test", Version: "test"})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- cache.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	until := func(what string, yes func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !yes(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain until %s", what)
			}
		}
	}
	until("the cache is true", func() bool { return cache.Confirmed(time.Second) })

	var open atomic.Int32
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sk-up" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"a"}}]}`)
	}))
	upstream.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	upstream.Start()
	t.Cleanup(upstream.Close)
	_, err := cat.AddEngine(t.Context(), catalog.EngineSpec{Name: "up", Kind: "openai", BaseURL: upstream.URL + "/v1", Key: "sk-up"})
	must(t, err)

	made := app.NewEngines(cat, cache)
	var first engine.Engine
	until("the engine is known", func() bool {
		first, err = made.Get(t.Context(), "up")
		return err == nil
	})
	for range 2 {
		again, err := made.Get(t.Context(), "up")
		must(t, err)
		if again != first {
			t.Error("the engine was made anew")
		}
		_, err = again.Chat(t.Context(), &engine.ChatRequest{Model: "m"})
		must(t, err)
	}
	if n := open.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if got := made.Breakers(); len(got) != 1 || got["up"] != "closed" {
		t.Errorf("breakers: %v", got)
	}

	must(t, cat.RemoveEngine(t.Context(), "up"))
	until("the engine is gone", func() bool {
		_, err := made.Get(t.Context(), "up")
		return errors.Is(err, catalog.ErrNotFound)
	})
	until("its connection is closed", func() bool { return open.Load() == 0 })
	if got := made.Breakers(); len(got) != 0 {
		t.Errorf("breakers: %v", got)
	}
}
