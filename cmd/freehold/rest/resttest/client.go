package resttest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Client calls a door over a real socket.
type Client struct {
	T     testing.TB
	URL   string
	Token string // empty: no Authorization
}

// Answer is a whole answer.
type Answer struct {
	T      testing.TB
	Status int
	Header http.Header
	Body   string
}

// With returns a client with another token.
func (c Client) With(token string) Client {
	c.Token = token
	return c
}

// Do calls; header holds names and values in turn, after Content-Type.
func (c Client) Do(method, path, body string, header ...string) Answer {
	c.T.Helper()
	req, err := http.NewRequestWithContext(c.T.Context(), method, c.URL+path, strings.NewReader(body))
	if err != nil {
		c.T.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	// A connection of its own: nothing is left behind when the test ends.
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		c.T.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.T.Fatal(err)
	}
	return Answer{c.T, resp.StatusCode, resp.Header, string(b)}
}

// Refused checks that the answer is this row of the error table.
func (a Answer) Refused(status int, code, param string) {
	a.T.Helper()
	var body struct {
		Error map[string]any `json:"error"`
	}
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
		a.T.Errorf("status %d, body %q: %v", a.Status, a.Body, err)
		return
	}
	var want any
	if param != "" {
		want = param
	}
	if a.Status != status || body.Error["code"] != code || body.Error["param"] != want {
		a.T.Errorf("got %d %v, want %d %s %q", a.Status, body.Error, status, code, param)
	}
	if a.Header.Get("X-Request-Id") == "" || a.Header.Get("Content-Type") != "application/json" {
		a.T.Errorf("headers: %v", a.Header)
	}
}

// Into decodes an answer of this status.
func (a Answer) Into(status int, v any) {
	a.T.Helper()
	if a.Status != status {
		a.T.Fatalf("got %d %s, want %d", a.Status, a.Body, status)
	}
	if err := json.Unmarshal([]byte(a.Body), v); err != nil {
		a.T.Fatalf("%s: %v", a.Body, err)
	}
}
