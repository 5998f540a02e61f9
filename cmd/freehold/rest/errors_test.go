package rest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/inference"
	"freehold/inference/engine"
	"freehold/inference/files"
	"freehold/migrations/localpg"
	"freehold/router"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

// The table, as the project's design has it.
func TestTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		code   string
		param  string
		retry  bool
	}{
		{rest.Bad("n", "n must be small."), 400, "invalid_request", "n", false},
		{&inference.BadRequest{Param: "stop", Message: "x"}, 400, "invalid_request", "stop", false},
		{&engine.Error{Kind: engine.BadRequest, Param: "messages", Message: "x"}, 400, "invalid_request", "messages", false},
		{&engine.Error{Kind: engine.Unsupported, Param: "tools", Message: "x"}, 400, "invalid_request", "tools", false},
		{catalog.ErrInvalid, 400, "invalid_request", "", false},
		{&catalog.Invalid{Field: "slug", Text: "slug: want letters"}, 400, "invalid_request", "slug", false},
		{fleet.ErrInsecureServer, 400, "invalid_request", "", false},
		{fleet.ErrServerOpen, 400, "invalid_request", "", false},
		{fleet.ErrServerUnfit, 400, "invalid_request", "", false},
		{catalog.ErrInvalidKey, 401, "invalid_api_key", "", false},
		{router.ErrUnknown, 401, "invalid_api_key", "", false},
		{router.ErrSuspended, 403, "tenant_suspended", "", false},
		{rest.ErrScope, 403, "insufficient_scope", "", false},
		{inference.ErrModelNotAllowed, 403, "model_not_allowed", "model", false},
		{tenantdb.ErrNotFound, 404, "not_found", "", false},
		{catalog.ErrNotFound, 404, "not_found", "", false},
		{inference.ErrModelNotFound, 404, "model_not_found", "model", false},
		{catalog.ErrExists, 409, "conflict", "", false},
		{catalog.ErrConflict, 409, "conflict", "", false},
		{catalog.ErrSealBroken, 409, "conflict", "", false},
		{localpg.ErrNotFound, 409, "conflict", "", false},
		{fmt.Errorf("%w: %w", fleet.ErrNeedsPause, catalog.ErrConflict), 409, "conflict", "", false},
		{tenantdb.ErrInUse, 409, "conflict", "", false},
		{files.ErrTooLarge, 413, "request_too_large", "file", false},
		{files.ErrStore, 503, "store_unavailable", "", true},
		{&engine.Error{Kind: engine.Failed, Message: "key sk-1", UpstreamStatus: 500}, 502, "engine_error", "", false},
		{&engine.Error{Kind: engine.Timeout, Message: "x"}, 504, "engine_timeout", "", false},
		{context.DeadlineExceeded, 504, "engine_timeout", "", false},
		{router.ErrMoving, 503, "tenant_moving", "", true},
		{router.ErrUpgrading, 503, "tenant_upgrading", "", true},
		{tenantdb.ErrUnavailable, 503, "database_unavailable", "", true},
		{tenantdb.ErrFenced, 503, "database_unavailable", "", true},
		{tenantdb.ErrForeign, 503, "database_unavailable", "", true},
		{catalog.ErrUnavailable, 503, "database_unavailable", "", true},
		{fleet.ErrUnfenced, 503, "database_unavailable", "", true},
		{fmt.Errorf("%w: %w", router.ErrBusy, context.DeadlineExceeded), 503, "server_full", "", true},
		{router.ErrClosed, 503, "shutting_down", "", true},
		{rest.ErrShuttingDown, 503, "shutting_down", "", true},
		{errors.New("who knows"), 500, "internal_error", "", false},
	} {
		for _, err := range []error{c.err, fmt.Errorf("do something: %w", c.err)} {
			e := rest.Describe(err)
			if e.Status != c.status || e.Code != c.code || e.Param != c.param || e.RetryAfter > 0 != c.retry {
				t.Errorf("%v: got %d %s %q, retry after %v", err, e.Status, e.Code, e.Param, e.RetryAfter)
			}
			if e.Message == "" || http.StatusText(e.Status) == "" || e.RetryAfter%time.Second != 0 {
				t.Errorf("%v: message %q", err, e.Message)
			}
			if want := e.Status < 500; (e.Type == "invalid_request_error") != want || strings.Contains(e.Message, "sk-1") || strings.Contains(e.Message, "who knows") {
				t.Errorf("%v: type %s, message %q", err, e.Type, e.Message)
			}
		}
	}
}

// A server that is full says when to come back: as it expects, in whole seconds,
// never at once.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]time.Duration{
		0: time.Second, time.Nanosecond: time.Second, time.Second: time.Second, 1001 * time.Millisecond: 2 * time.Second,
		7 * time.Second: 7 * time.Second, -time.Second: time.Second,
	} {
		busy := &router.Busy{RetryAfter: wait, Reason: "secret-4711"}
		e := rest.Describe(fmt.Errorf("predict: %w", busy))
		if e.Status != 503 || e.Code != "server_full" || e.RetryAfter != want || strings.Contains(e.Message, "4711") {
			t.Errorf("%s: %d %s, retry after %s, %q", wait, e.Status, e.Code, e.RetryAfter, e.Message)
		}
	}
	b := setup(t, get("/full", func(context.Context, *rest.Request) (any, error) {
		return nil, &router.Busy{RetryAfter: 2500 * time.Millisecond}
	}))
	a := b.do("GET", "/full", "")
	refused(t, a, 503, "server_full", "")
	if got := a.header.Get("Retry-After"); got != "3" {
		t.Errorf("Retry-After %q, want 3", got)
	}
}

func FuzzRequestID(f *testing.F) {
	for _, s := range []string{"", "req-1", "a b", "\x7f", strings.Repeat("x", 129), "ä", "\r\nSet-Cookie: x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id := rest.RequestID(s)
		if len(id) == 0 || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("%q became %q", s, id)
		}
		if strings.ContainsAny(rest.Bearer("Bearer "+s), "\r\n") && !strings.ContainsAny(s, "\r\n") {
			t.Errorf("token of %q", s)
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"name":"x"}`, `{"name":1}`, `[`, `{"name":"x","size":1e400}`, `{"":1}`, `null`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := rest.Decode[thing](body)
		if err == nil {
			return
		}
		e := rest.Describe(err)
		if e.Status != 400 || e.Message == "" || !utf8.ValidString(e.Message) {
			t.Errorf("%q: %d %q", body, e.Status, e.Message)
		}
	})
}
