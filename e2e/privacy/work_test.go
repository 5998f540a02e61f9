package privacy_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// work sends requests full of personal data.
type work struct {
	*ground
	p        *planter
	requests int
	errors   []string // what failed answers said
}

// send sends a request and returns the answer with the values in it since a mark.
func (w *work) send(token, path string, req any, mark int, header ...string) (answer, []planted) {
	w.Helper()
	w.requests++
	a := w.post(w.Context(), token, path, req, header...)
	if a.err == nil && a.status >= http.StatusBadRequest {
		w.errors = append(w.errors, a.body)
	}
	return a, w.p.since(mark)
}

// later is send that returns a wait for the answer, which check is given then.
func (w *work) later(token string, req any, check func(answer), header ...string) (wait func()) {
	w.requests++
	got := make(chan answer, 1)
	go func() { got <- w.post(w.Context(), token, "/v1/chat/completions", req, header...) }()
	return func() {
		w.Helper()
		a := <-got
		if a.err == nil && a.status >= http.StatusBadRequest {
			w.errors = append(w.errors, a.body)
		}
		check(a)
	}
}

func (w *work) told(what string, a answer, status int) {
	w.Helper()
	if a.err != nil || a.status != status {
		w.Errorf("%s: status %d %s %v, want %d", what, a.status, a.body, a.err, status)
	}
}

func (w *work) check(err error) {
	w.Helper()
	if err != nil {
		w.Error(err)
	}
}

// gated begins requests that are at work until the gate opens, and returns a wait
// for their end.
func (w *work) gated(token string) (wait func()) {
	w.Helper()
	before := w.upstream.waiting()
	var all sync.WaitGroup
	req := w.p.chat("gated", false)
	w.requests++
	all.Go(func() { w.post(context.WithoutCancel(w.Context()), token, "/v1/chat/completions", req) })
	w.until("the engine works", func() bool { return w.upstream.waiting() > before })
	return all.Wait
}

// crowd has another tenant ask all the while, well and badly, and returns a function
// that ends it and returns all that it was answered.
func (g *ground) crowd(token string) (end func() []byte) {
	ctx, stop := context.WithCancel(g.Context())
	var all []byte
	var one sync.WaitGroup
	one.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			model := behaviours[i%len(behaviours)]
			if slices.Contains([]string{"hang", "gated", "inventive"}, model) {
				continue
			}
			a := g.post(ctx, token, "/v1/chat/completions", map[string]any{
				"model": model, "stream": i%2 == 0, "messages": []any{map[string]any{"role": "user", "content": "good morning"}},
			})
			all = append(all, a.body...)
			time.Sleep(50 * time.Millisecond) // it is there, and takes little
		}
	})
	return func() []byte {
		stop()
		one.Wait()
		return all
	}
}
