package enginetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"freehold/inference/engine"
)

func saysTheSame(t *testing.T, s Subject) {
	a, b := whole(t, s.Engine, s.request(nil)), streamed(t, s.Engine, s.request(nil))
	for what, got := range map[string]*answer{"whole": a, "streamed": b} {
		first := got.of(0)
		if len(got.choices) != 1 || len(strings.Fields(first.text)) < 3 || first.role != "assistant" || first.finish != "stop" {
			t.Errorf("%s: %d choices, the first is %+v", what, len(got.choices), *first)
		}
	}
	if !s.Deterministic {
		return
	}
	if *a.of(0) != *b.of(0) {
		t.Errorf("whole: %+v\nstreamed: %+v", *a.of(0), *b.of(0))
	}
	if !counts(a.usage, b.usage) {
		t.Errorf("usage %+v whole, %+v streamed", a.usage, b.usage)
	}
}

// counts reports whether both count the same.
func counts(a, b engine.Usage) bool {
	return a.PromptTokens == b.PromptTokens && a.CompletionTokens == b.CompletionTokens && a.TotalTokens == b.TotalTokens
}

func usageLast(t *testing.T, s Subject) {
	for _, asked := range []bool{true, false} {
		a := streamed(t, s.Engine, s.request(func(r *engine.ChatRequest) { r.IncludeUsage = asked }))
		last := a.chunks[len(a.chunks)-1]
		if last.Usage == nil || len(last.Choices) != 0 {
			t.Fatalf("asked for usage: %v; the last chunk is %+v", asked, last)
		}
		if u := last.Usage; u.PromptTokens <= 0 || u.CompletionTokens <= 0 || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
			t.Errorf("usage %+v", *u)
		}
		var so engine.Usage
		for i, c := range a.chunks {
			if len(c.Choices) == 0 && i < len(a.chunks)-1 {
				t.Errorf("chunk %d of %d has no choices", i, len(a.chunks))
			}
			if c.Usage == nil {
				continue
			}
			if c.Usage.TotalTokens < so.TotalTokens {
				t.Errorf("usage went from %+v to %+v", so, *c.Usage)
			}
			so = *c.Usage
		}
	}
}

func choices(t *testing.T, s Subject) {
	const n = 3
	req := s.request(func(r *engine.ChatRequest) { r.N = n })
	one := whole(t, s.Engine, s.request(nil)).usage.CompletionTokens
	for what, a := range map[string]*answer{"whole": whole(t, s.Engine, req), "streamed": streamed(t, s.Engine, req)} {
		if len(a.choices) != n {
			t.Errorf("%s: %d choices, want %d", what, len(a.choices), n)
		}
		for i := range n {
			if c := a.of(i); c.text == "" || c.finish != "stop" || c.role != "assistant" {
				t.Errorf("%s: choice %d is %+v", what, i, *c)
			}
		}
		if s.Deterministic && a.usage.CompletionTokens != n*one {
			t.Errorf("%s: %d tokens for %d choices, %d for one", what, a.usage.CompletionTokens, n, one)
		}
	}
}

// stops asks for an end before the answer's third word.
func stops(t *testing.T, s Subject) {
	if !s.Deterministic {
		return
	}
	full := whole(t, s.Engine, s.request(nil)).text()
	third := strings.Fields(full)[2]
	want, _, _ := strings.Cut(full, third)
	req := s.request(func(r *engine.ChatRequest) { r.Stop = []string{"never said", third} })
	for what, a := range map[string]*answer{"whole": whole(t, s.Engine, req), "streamed": streamed(t, s.Engine, req)} {
		if strings.TrimSpace(a.text()) != strings.TrimSpace(want) || a.of(0).finish != "stop" {
			t.Errorf("%s: %q, %s; want %q", what, a.text(), a.of(0).finish, want)
		}
	}
}

func limits(t *testing.T, s Subject) {
	full := whole(t, s.Engine, s.request(nil))
	for _, name := range []string{"", "max_tokens", "max_completion_tokens"} {
		most := int(full.usage.CompletionTokens) - 1
		req := s.request(func(r *engine.ChatRequest) { r.MaxTokens, r.MaxTokensName, r.N = &most, name, 2 })
		for what, a := range map[string]*answer{"whole": whole(t, s.Engine, req), "streamed": streamed(t, s.Engine, req)} {
			if got := a.usage.CompletionTokens; got > int64(2*most) || a.of(0).finish != "length" {
				t.Errorf("%q, %s: %d tokens at a limit of 2·%d, ended by %s", name, what, got, most, a.of(0).finish)
			}
			if s.Deterministic && !strings.HasPrefix(full.text(), a.text()) {
				t.Errorf("%q, %s: %q does not begin %q", name, what, a.text(), full.text())
			}
		}
	}
}

func deterministic(t *testing.T, s Subject) {
	if !s.Deterministic {
		return
	}
	req := s.request(nil)
	if a, b := whole(t, s.Engine, req), whole(t, s.Engine, req); *a.of(0) != *b.of(0) || !counts(a.usage, b.usage) {
		t.Errorf("%+v, then %+v", *a.of(0), *b.of(0))
	}
}

func concurrent(t *testing.T, s Subject) {
	if !s.Deterministic {
		return
	}
	const callers = 8
	reqs := make([]*engine.ChatRequest, callers)
	want := make([]*answer, callers)
	for i := range callers {
		reqs[i] = s.request(func(r *engine.ChatRequest) { r.Messages = s.Messages(fmt.Sprintf("%s%d", canary, i)) })
		want[i] = whole(t, s.Engine, reqs[i])
	}
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			a, err := listen(t.Context(), t, s.Engine, reqs[i])
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
				return
			}
			if *a.of(0) != *want[i].of(0) || !counts(a.usage, want[i].usage) {
				t.Errorf("caller %d heard %+v, alone %+v", i, *a.of(0), *want[i].of(0))
			}
		})
	}
	all.Wait()
}

func untouched(t *testing.T, s Subject) {
	most := 5
	make1 := func() *engine.ChatRequest {
		return s.request(func(r *engine.ChatRequest) {
			r.N, r.MaxTokens, r.Stop, r.User = 2, &most, []string{"x"}, "u"
			r.Params = map[string]json.RawMessage{"temperature": json.RawMessage("0")}
		})
	}
	req := make1()
	whole(t, s.Engine, req)
	streamed(t, s.Engine, req)
	if !reflect.DeepEqual(req, make1()) {
		t.Errorf("the request became %+v", req)
	}
}

const oneTool = `[{"type":"function","function":{"name":"look_up","parameters":{"type":"object"}}}]`

func tools(t *testing.T, s Subject) {
	req := s.request(params("tools", oneTool))
	if !s.Tools {
		unsupported(t, s, req, "tools")
		return
	}
	a, b := whole(t, s.Engine, req).of(0), streamed(t, s.Engine, req).of(0)
	if !strings.HasPrefix(a.tools, "look_up{") || a.finish != "tool_calls" || *a != *b {
		t.Errorf("whole %+v\nstreamed %+v", *a, *b)
	}
}

func responseFormat(t *testing.T, s Subject) {
	req := s.request(params("response_format", `{"type":"json_object"}`))
	if !s.JSON {
		unsupported(t, s, req, "response_format")
		return
	}
	for what, a := range map[string]*answer{"whole": whole(t, s.Engine, req), "streamed": streamed(t, s.Engine, req)} {
		if !json.Valid([]byte(a.text())) {
			t.Errorf("%s: %q is no JSON", what, a.text())
		}
	}
}

func embeds(t *testing.T, s Subject) {
	if s.EmbedModel == "" {
		return
	}
	in := []string{"one text", "another, longer text", "one text"}
	resp, err := s.Engine.Embed(t.Context(), &engine.EmbedRequest{Model: s.EmbedModel, Input: in})
	if err != nil {
		t.Fatal(err)
	}
	v := resp.Vectors
	if len(v) != len(in) || len(v[0]) == 0 || len(v[0]) != len(v[1]) || reflect.DeepEqual(v[0], v[1]) {
		t.Fatalf("%d vectors for %d texts", len(v), len(in))
	}
	if s.Deterministic && !reflect.DeepEqual(v[0], v[2]) {
		t.Error("one text has two vectors")
	}
	if u := resp.Usage; u.PromptTokens <= 0 || u.TotalTokens != u.PromptTokens || u.CompletionTokens != 0 {
		t.Errorf("usage %+v", u)
	}
}
