package privacy_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"freehold/catalog"
	"freehold/inference/pii"
	"freehold/migrations/pgtest"
)

// few is how many values are planted at least.
const few = 1000

// With detection on, personal data reaches neither engine, log, audit, trace nor
// any table, whatever becomes of the request; where it is to come back, it does.
func TestG10_PersonalDataIsNowhere(t *testing.T) {
	t.Parallel()
	g := setup(t)
	w := &work{ground: g, p: newPlanter(t, 1)}
	const phrase = `Ann "Quinn" O\Neil`
	prompt := w.p.text() // in each request of acme's
	acme, key := g.tenant("acme", catalog.ConfigPatch{SystemPromptOverride: new("never mail " + prompt), PIIDeny: &[]string{phrase}})
	w.p.all = append(w.p.all, planted{phrase, pii.Custom, false})
	_, redacting := g.tenant("redacting", catalog.ConfigPatch{PIIMode: new("redact")})
	_, blocking := g.tenant("blocking", catalog.ConfigPatch{PIIMode: new("block")})
	open, openKey := g.tenant("open", catalog.ConfigPatch{PIIDetectionEnabled: new(false)})
	_, stranger := g.tenant("stranger", catalog.ConfigPatch{})
	_, poor, err := g.cat.CreateKey(t.Context(), acme.ID, catalog.KeySpec{Name: "poor", Scopes: []string{"all"}, MonthlyTokenLimit: new(int64(1))})
	g.ok(err)
	_, narrow, err := g.cat.CreateKey(t.Context(), acme.ID, catalog.KeySpec{Name: "narrow", Scopes: []string{"all"}, ConcurrentRequestLimit: new(1)})
	g.ok(err)
	g.start()
	others := g.crowd(stranger)

	w.comesBack(key, phrase)
	w.short(key)
	w.staysAway(redacting)
	w.isRefused(blocking)
	w.texts(key)
	w.fails(key)
	gated := w.gated(narrow)
	w.limits(poor, narrow)
	w.headers(key)
	for len(w.p.all) < few || pgtest.Long() && len(w.p.all) < 6*few {
		w.texts(redacting)
		w.comesBack(key, phrase)
	}

	// Without detection the same is found, so that the search means something.
	control := newPlanter(t, 2)
	g.post(t.Context(), openKey, "/v1/chat/completions", control.chat("echo", false))
	shown := g.ask(t.Context(), http.MethodGet, g.api+"/v1/predictions?limit=100", key, nil)
	g.ok(shown.err)
	metrics := g.metrics()
	answers := others()

	// What can't be settled is spooled.
	g.way.Cut()
	close(g.upstream.gate)
	if code := g.node.Stop(t); code != 0 {
		t.Errorf("the node ended with %d", code)
	}
	gated()
	places := []place{
		{"the engine", g.upstream.received()}, {"the log", []byte(g.node.Stderr.String() + g.node.Stdout.String())},
		{"the traces", g.traces.received()}, {"the metrics", metrics}, {"the catalog", g.catalogDump()},
		{"the object store", g.objects()}, {"the server's log", g.serverLog()},
		{"what others were answered", answers}, {"what errors said", []byte(strings.Join(w.errors, "\n"))},
		{"the prediction log as shown", []byte(shown.body)},
	}
	for _, tenant := range g.tenants {
		places = append(places, place{tenant.Slug + "'s database", g.tenantDump(tenant)})
	}
	var hidden, seen needles
	for _, one := range w.p.all {
		hidden.add(one.value)
	}
	for _, one := range control.all {
		seen.add(one.value)
	}
	t.Logf("%d values planted in %d requests", len(w.p.all), w.requests)
	hidden.absent(t, places)
	for _, p := range places {
		want := p.name == "the engine" || p.name == open.Slug+"'s database"
		values := map[string]bool{}
		for _, one := range seen.find(p.text) {
			values[one.value] = true
		}
		if want && len(values) < len(control.all) || !want && len(values) > 0 {
			t.Errorf("of %d values without detection %s has %d", len(control.all), p.name, len(values))
		}
	}
	holds := map[string]string{
		"the log": "engine did not answer", "the traces": "POST /v1/chat/completions", "the metrics": "freehold_",
		"the object store": "spool/", "the catalog": "operator_audit", "acme's database": "[EMAIL_", "redacting's database": "[EMAIL]",
	}
	for _, p := range places {
		if want := holds[p.name]; !strings.Contains(string(p.text), want) {
			t.Errorf("%s has no %q", p.name, want)
		}
	}
}

// comesBack is pii_mode restore: answers have again what the engine never saw, also
// in pieces, in tools' arguments, and when they are given a second time.
func (w *work) comesBack(token, phrase string) {
	w.Helper()
	for _, stream := range []bool{false, true} {
		for _, model := range []string{"echo", "tools", "inventive"} {
			var header []string
			if w.requests%2 == 0 {
				header = []string{"Idempotency-Key", fmt.Sprint("again-", w.requests)}
			}
			what := fmt.Sprintf("%s, streamed %t, %v", model, stream, header)
			mark := len(w.p.all)
			req := w.p.chat(model, stream)
			req["messages"] = append(req["messages"].([]any), map[string]any{"role": "user", "content": "ask " + phrase + " about it"})
			if model == "inventive" {
				mark = len(w.p.all)
				w.upstream.invent(w.p.long() + "\n" + w.p.document())
			} else {
				req["n"] = 1 + w.requests%2
			}
			users := newUsers(w.p, req)
			a, mine := w.send(token, "/v1/chat/completions", req, mark, header...)
			w.told(what, a, http.StatusOK)
			h := hear(w, a)
			mine = users.without(mine)
			if model != "inventive" {
				mine = append(mine, planted{phrase, pii.Custom, false})
			}
			switch model {
			case "echo":
				w.check(restoredJSON(what, h.text, mine))
			case "tools":
				w.check(restoredJSON(what, h.arguments, mine))
				w.check(restored(what+", custom tool", h.input, mine))
			case "inventive": // the engine's own words are none of ours
				for _, one := range mine {
					if !strings.Contains(h.text, one.value) {
						w.Errorf("%s: %q was taken away", what, one.value)
					}
				}
			}
			if header != nil {
				again, _ := w.send(token, "/v1/chat/completions", req, mark, header...)
				w.told(what+", again", again, http.StatusOK)
				if hear(w, again) != h {
					w.Errorf("%s: the second answer is another one", what)
				}
			}
		}
	}
}

// short is a stream in which every cut can happen.
func (w *work) short(token string) {
	w.Helper()
	for range 7 {
		mark := len(w.p.all)
		a, mine := w.send(token, "/v1/chat/completions", map[string]any{"model": "echo", "stream": true, "messages": []any{
			map[string]any{"role": "user", "content": w.p.long() + w.p.document()},
		}}, mark)
		w.told("short", a, http.StatusOK)
		w.check(restored("short", hear(w, a).text, mine))
	}
}

// users are the values that name end users.
type users []string

func newUsers(p *planter, req map[string]any) (u users) {
	before := len(p.all)
	p.users(req)
	for _, one := range p.since(before) {
		u = append(u, one.value)
	}
	return u
}

func (u users) without(mine []planted) []planted {
	return slices.DeleteFunc(slices.Clone(mine), func(one planted) bool { return slices.Contains(u, one.value) })
}

// staysAway is pii_mode redact: nothing comes back.
func (w *work) staysAway(token string) {
	w.Helper()
	for _, stream := range []bool{false, true} {
		mark := len(w.p.all)
		a, mine := w.send(token, "/v1/chat/completions", w.p.chat("echo", stream), mark)
		w.told("redact", a, http.StatusOK)
		h := hear(w, a)
		for _, one := range mine {
			one.oneWay = true
			w.check(restored("redact", h.text, []planted{one}))
		}
		if !strings.Contains(h.text, "[EMAIL]") {
			w.Errorf("redact: no tag in %s", h.text)
		}
	}
}

// isRefused is pii_mode block: nothing is done, and the answer names kinds alone.
func (w *work) isRefused(token string) {
	w.Helper()
	for path, req := range map[string]map[string]any{
		"/v1/chat/completions": w.p.chat("echo", false),
		"/v1/embeddings":       {"model": "vectors", "input": []string{w.p.text(), w.p.long()}},
		"/v1/predictions":      {"model": "echo", "inputs": w.p.text() + w.p.long()},
	} {
		a, _ := w.send(token, path, req, 0)
		w.told("block "+path, a, http.StatusBadRequest)
		if !strings.Contains(a.body, "key") || !strings.Contains(a.body, "personal data") {
			w.Errorf("block %s: %s doesn't name the kinds", path, a.body)
		}
	}
	if a := w.ask(w.Context(), http.MethodGet, w.api+"/v1/predictions", token, nil); !strings.Contains(a.body, `"data":[]`) {
		w.Errorf("block: something was admitted: %s", a.body)
	}
}

// texts are embeddings and predictions.
func (w *work) texts(token string) {
	w.Helper()
	for _, input := range []any{w.p.text(), []string{w.p.text(), w.p.long()}} {
		req := map[string]any{"model": "vectors", "input": input, "user": w.p.alone(200)}
		a, _ := w.send(token, "/v1/embeddings", req, 0)
		w.told("embeddings", a, http.StatusOK)
	}
	for _, input := range []any{
		w.p.long(), w.p.conversation(),
		map[string]any{"system": w.p.text(), "prompt": w.p.long()}, map[string]any{"messages": w.p.conversation()},
	} {
		req := map[string]any{"model": "echo", "inputs": input, "user": w.p.alone(200), "metadata": map[string]any{"of": w.p.text()}}
		a, _ := w.send(token, "/v1/predictions", req, 0, "Idempotency-Key", fmt.Sprint("texts-", w.requests))
		w.told("predictions", a, http.StatusOK)
		var shown struct{ ID string }
		decode(w, a, &shown)
		one := w.ask(w.Context(), http.MethodGet, w.api+"/v1/predictions/"+shown.ID, token, nil)
		w.told("prediction", one, http.StatusOK)
		w.errors = append(w.errors, one.body) // it shows what is kept
	}
}

// fails are requests that end badly, by the engine's fault or the client's.
func (w *work) fails(token string) {
	w.Helper()
	var all []func() // at once: some are tried again by the node, with pauses
	for _, c := range []struct {
		model  string
		status int
		stream bool
	}{
		{"refuse", 400, false}, {"refuse", 400, true}, {"fail", 502, false}, {"inband", 502, true}, {"late", 504, false}, {"hang", 504, true},
		{"cut", 200, true}, {"cut", 502, false}, {"garbage", 502, false}, {"coded", 502, false}, {"moved", 502, false}, {"nobody", 404, false},
	} {
		req := w.p.chat(c.model, c.stream)
		w.p.users(req)
		all = append(all, w.later(token, req, func(a answer) { w.told(c.model, a, c.status) }))
	}
	for _, wait := range all {
		wait()
	}
	bad := w.p.chat("echo", false)
	bad["surprise"] = w.p.text()
	for what, change := range map[string]map[string]any{
		"unknown":     {"surprise": w.p.text()},
		"odd name":    {w.p.text(): 1},
		"stop":        {"stop": []any{w.p.text(), 5}},
		"role":        {"messages": []any{map[string]any{"role": w.p.text(), "content": "x"}}},
		"tools":       {"tools": []any{map[string]any{"type": w.p.text()}}},
		"metadata":    {"metadata": map[string]any{w.p.text(): strings.Repeat(w.p.text(), 50)}},
		"a long name": {"user": strings.Repeat(w.p.text(), 50)},
		"model":       {"model": w.p.text()},
		"stream":      {"stream": w.p.text()},
	} {
		req := maps.Clone(bad)
		delete(req, "surprise")
		maps.Copy(req, change)
		a, _ := w.send(token, "/v1/chat/completions", req, 0)
		if a.err != nil || a.status != http.StatusBadRequest && a.status != http.StatusNotFound {
			w.Errorf("%s: status %d %s %v", what, a.status, a.body, a.err)
		}
	}
	// A client that leaves.
	for _, stream := range []bool{false, true} {
		ctx, leave := context.WithCancel(w.Context())
		before := w.upstream.waiting()
		var left sync.WaitGroup
		req := w.p.chat("gated", stream)
		left.Go(func() { w.post(ctx, token, "/v1/chat/completions", req) })
		w.until("the engine works", func() bool { return w.upstream.waiting() > before })
		leave()
		left.Wait()
		w.requests++
	}
}

// limits are requests beyond them.
func (w *work) limits(poor, narrow string) {
	w.Helper()
	for token, code := range map[string]string{poor: "insufficient_quota", narrow: "rate_limit_exceeded"} {
		for _, stream := range []bool{false, true} {
			a, _ := w.send(token, "/v1/chat/completions", w.p.chat("echo", stream), 0)
			w.told(code, a, http.StatusTooManyRequests)
			if !strings.Contains(a.body, code) {
				w.Errorf("%s instead of %s", a.body, code)
			}
		}
	}
}

// headers are values where nobody expects a text.
func (w *work) headers(token string) {
	w.Helper()
	for _, name := range []string{
		"X-Request-Id", "Idempotency-Key", "User-Agent", "Openai-Organization", "Traceparent", "Tracestate", "Baggage", "Referer", "Cookie",
	} {
		times := 1
		if name == "X-Request-Id" || name == "Idempotency-Key" {
			times = len(kinds) // each kind once
		}
		for range times {
			req := map[string]any{"model": "echo", "messages": []any{map[string]any{"role": "user", "content": w.p.text()}}}
			a, _ := w.send(token, "/v1/chat/completions", req, 0, name, strings.ReplaceAll(w.p.alone(120), " ", "-"))
			w.told(name, a, http.StatusOK)
		}
	}
	for _, path := range []string{"/v1/models/", "/v1/predictions/", "/v1/predictions?user=", "/v1/predictions?limit=", "/v1/nothing/"} {
		value := strings.ReplaceAll(w.p.alone(60), " ", "%20")
		a := w.ask(w.Context(), http.MethodGet, w.api+path+value, token, nil)
		if a.err != nil || a.status >= 500 {
			w.Errorf("%s: status %d %s %v", path, a.status, a.body, a.err)
		}
	}
}
