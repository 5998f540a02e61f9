package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

func TestBodies(t *testing.T) {
	t.Parallel()
	b := setup(t, post("/things"))
	if a := b.do("POST", "/things", `{"name":"x","size":3}`); a.status != 201 || a.body != `{"name":"x","size":3,"color":null}` {
		t.Errorf("got %d %s", a.status, a.body)
	}
	for _, c := range []struct{ body, param string }{
		{`{"name":`, ""}, {`[]`, ""}, {`null`, ""}, {`"x"`, ""}, {`{"name":"x"} {}`, ""},
		{`{"name":1}`, "name"}, {`{"size":1}`, "name"}, {`{"name":"x","sise":1}`, "sise"},
		{"{\"name\":\"\xff\"}", ""}, {`{"name":"x","until":"soon"}`, "until"}, {`{"name":"x","until":5}`, "until"},
		{`{"name":"x","Size":1}`, "Size"}, {`{"name":"x","size":1.5}`, "size"},
	} {
		refused(t, b.do("POST", "/things", c.body), 400, "invalid_request", c.param)
	}
	refused(t, b.do("POST", "/things", ""), 400, "invalid_request", "")
	refused(t, b.do("POST", "/things", `{}`, "Content-Type", "text/plain"), 415, "unsupported_media_type", "")
	refused(t, b.do("POST", "/things", `{}`, "Content-Type", "application/x-www-form-urlencoded"), 415, "unsupported_media_type", "")
	refused(t, b.do("POST", "/things", `{}`, "Content-Encoding", "gzip"), 415, "unsupported_media_type", "")
	if a := b.do("POST", "/things", `{"name":"x"}`, "Content-Type", "application/json; charset=utf-8"); a.status != 201 {
		t.Errorf("charset: %d", a.status)
	}
}

func TestRouting(t *testing.T) {
	t.Parallel()
	name := func(_ context.Context, r *rest.Request) (any, error) { return r.Param("name"), nil }
	id := func(_ context.Context, r *rest.Request) (any, error) { return r.Param("id"), nil }
	b := setup(t, get("/models/{name...}", name), get("/models", id), get("/jobs/{id}/events", id), post("/things"))
	for path, want := range map[string]string{
		"/models/a":                            `"a"`,
		"/models/ft:meta-llama%2FLlama:acme:x": `"ft:meta-llama/Llama:acme:x"`,
		"/models/meta-llama/Llama":             `"meta-llama/Llama"`,
		"/models/%E2%82%AC":                    `"€"`,
		"/jobs/a%2Fb/events":                   `"a/b"`,
		"/models":                              `""`,
	} {
		if a := b.do("GET", path, ""); a.status != 200 || a.body != want {
			t.Errorf("%s: got %d %s, want %s", path, a.status, a.body, want)
		}
	}
	for path, param := range map[string]string{"/models/%00": "name", "/models/a%ff": "name", "/jobs/%00/events": "id", "/models?q=%00": "q", "/models?q=%ff": "q", "/models?%ff=%ff": ""} {
		refused(t, b.do("GET", path, ""), 400, "invalid_request", param)
	}
	for _, path := range []string{"/", "/nope", "/models/", "/Models", "/jobs/a/b/events", "/v1/../healthz"} {
		refused(t, b.do("GET", path, ""), 404, "not_found", "")
	}
	a := b.do("PUT", "/things", `{}`)
	refused(t, a, 405, "method_not_allowed", "")
	if got := a.header.Get("Allow"); got != "POST" {
		t.Errorf("Allow: %q", got)
	}
	refused(t, b.do("BREW", "/things", ""), 405, "method_not_allowed", "")
	if a := b.do("HEAD", "/healthz", ""); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
	if a := b.do("GET", "/healthz", ""); a.header.Get("Server") != "" {
		t.Errorf("Server: %q", a.header.Get("Server"))
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if got := b.do("GET", "/healthz", "", "X-Request-Id", "mine-1").header.Get("X-Request-Id"); got != "mine-1" {
		t.Errorf("a sane id became %q", got)
	}
	for _, insane := range []string{
		"", "a b", "ä", strings.Repeat("x", 129), "ann@example.com", "4111111111111111", "fh_0BuH1bLzVO1h_XpY90UjMn8R8l4KTmo0D5M5h3jmyW4ADVfUWD8EvRcE0iTHDA",
	} {
		a := b.do("GET", "/nope", "", "X-Request-Id", insane)
		if got := a.header.Get("X-Request-Id"); len(got) != 36 {
			t.Errorf("%q became %q", insane, got)
		}
		if a.header.Get("Openai-Version") != "2020-10-01" || a.header.Get("Openai-Processing-Ms") == "" {
			t.Errorf("headers: %v", a.header)
		}
	}
}

func TestErrorsAndPanics(t *testing.T) {
	t.Parallel()
	b := setup(t,
		get("/unlisted", func(context.Context, *rest.Request) (any, error) { return nil, errors.New("password is hunter2") }),
		get("/panic", func(context.Context, *rest.Request) (any, error) { panic("prompt: my diagnosis") }),
		get("/unavailable", func(context.Context, *rest.Request) (any, error) { return nil, catalog.ErrUnavailable }),
		get("/conflict", func(context.Context, *rest.Request) (any, error) { return nil, catalog.ErrConflict }),
		get("/key", func(context.Context, *rest.Request) (any, error) { return nil, catalog.ErrInvalidKey }),
		get("/unencodable", func(context.Context, *rest.Request) (any, error) { return make(chan int), nil }),
	)
	a := b.do("GET", "/unlisted", "")
	refused(t, a, 500, "internal_error", "")
	if strings.Contains(a.body, "hunter2") || !strings.Contains(b.logs.String(), "hunter2") {
		t.Error("an unlisted error's text belongs into the log, and only there")
	}
	for range 3 {
		refused(t, b.do("GET", "/panic", ""), 500, "internal_error", "")
	}
	if strings.Contains(b.logs.String(), "diagnosis") {
		t.Error("a panic's value was logged")
	}
	refused(t, b.do("GET", "/unencodable", ""), 500, "internal_error", "")
	a = b.do("GET", "/unavailable", "")
	refused(t, a, 503, "database_unavailable", "")
	if a.header.Get("Retry-After") != "1" || a.header.Get("X-Should-Retry") != "" {
		t.Errorf("503's headers: %v", a.header)
	}
	a = b.do("GET", "/conflict", "")
	refused(t, a, 409, "conflict", "")
	if a.header.Get("X-Should-Retry") != "false" || a.header.Get("Retry-After") != "" {
		t.Errorf("409's headers: %v", a.header)
	}
	if a := b.do("GET", "/key", ""); a.header.Get("Www-Authenticate") != "Bearer" {
		t.Errorf("401's headers: %v", a.header)
	}
}

func TestLogHoldsNoSecret(t *testing.T) {
	t.Parallel()
	b := setup(t, post("/things"))
	b.do("POST", "/things?q=hush1", `{"name":"hush2"}`, "Authorization", "Bearer hush3")
	b.do("POST", "/things?q=hush1", `{"name":hush2`, "Authorization", "Bearer hush3")
	if got := b.logs.String(); strings.Contains(got, "hush") || !strings.Contains(got, "route=/things status=201") {
		t.Errorf("log: %s", got)
	}
}

// The answer arrives whole although the client is still sending when it is made.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	b := setup(t, post("/things"))
	big := `{"name":"` + strings.Repeat("x", 10<<20) + `"}`
	for range 5 {
		refused(t, b.do("POST", "/things", big), 413, "request_too_large", "")
	}
	// Without a length, in chunks.
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+b.addr+"/things", io.MultiReader(strings.NewReader(big)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	refused(t, answer{resp.StatusCode, resp.Header, string(body)}, 413, "request_too_large", "")
	refused(t, b.do("GET", "/healthz", "", "X-Long", strings.Repeat("x", 32<<10)), 431, "invalid_request", "")
}

// A body that nobody reads never becomes the next request.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	b := setup(t, get("/inner", func(context.Context, *rest.Request) (any, error) { return "smuggled", nil }), post("/things"))
	inner := "GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
	length := "Content-Length: " + jsonLen(inner) + "\r\n\r\n" + inner
	chunked := "Transfer-Encoding: chunked\r\n\r\n" + hexLen(inner) + "\r\n" + inner + "\r\n0\r\n\r\n"
	var all sync.WaitGroup
	for _, head := range []string{
		"POST /nope", "PUT /things", "POST /things", "GET /healthz", "DELETE /healthz", "BREW /x",
	} {
		for _, rest := range []string{length, chunked} {
			all.Go(func() {
				got := b.raw(head + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n" + rest)
				if strings.Contains(got, "smuggled") || strings.Count(got, "HTTP/1.1 ") != 1 {
					t.Errorf("%s %q: %q", head, rest, got)
				}
			})
		}
	}
	all.Wait()
	both := b.raw("POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner)
	if strings.Contains(both, "smuggled") {
		t.Errorf("two lengths: %q", both)
	}
	for _, garbage := range []string{"\x16\x03\x01\x02\x00", "GET\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"} {
		b.raw(garbage)
	}
	if a := b.do("GET", "/healthz", ""); a.status != 200 {
		t.Errorf("after garbage: %d", a.status)
	}
}

func jsonLen(s string) string { b, _ := json.Marshal(len(s)); return string(b) }

func hexLen(s string) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[len(s)>>4&15], digits[len(s)&15]})
}

// What a handler keeps stays what it was when the server's buffers are used again.
func TestKeptStringsStay(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var kept []string
	b := setup(t, get("/keep/{id}", func(_ context.Context, r *rest.Request) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, r.Param("id"), r.Query("q"), r.Token)
		return nil, nil
	}))
	for _, c := range []string{"a", "b", "c"} {
		s := strings.Repeat(c, 12)
		b.do("GET", "/keep/"+s+"?q="+s, "", "Authorization", "Bearer "+s)
	}
	for i, got := range kept {
		if want := strings.Repeat(string(rune('a'+i/3)), 12); got != want {
			t.Errorf("kept %d became %q, want %q", i, got, want)
		}
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	b := setup(t, get("/page", func(_ context.Context, r *rest.Request) (any, error) {
		limit, after, err := r.Page(20, 100)
		return map[string]any{"limit": limit, "after": after}, err
	}))
	if a := b.do("GET", "/page?limit=7&after=x", ""); a.body != `{"after":"x","limit":7}` {
		t.Errorf("got %s", a.body)
	}
	for _, q := range []string{"limit=0", "limit=101", "limit=x", "limit=-1", "limit=1.5"} {
		refused(t, b.do("GET", "/page?"+q, ""), 400, "invalid_request", "limit")
	}
	refused(t, b.do("GET", "/page?a;b=%zz", ""), 400, "invalid_request", "")
}
