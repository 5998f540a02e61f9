package api_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/inference/files"
	"freehold/tenantdb"
)

// An upload whose client dies leaves nothing, however far it came.
func testUploadBreaksOff(t *testing.T, c *drawer) {
	body, media := form(asGo(strings.Repeat("0123456789abcdef", 9<<16), "fine-tune")...) // two parts at the store
	head := "POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + c.client.Token + "\r\nContent-Type: " + media +
		fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(body))
	for _, sent := range []int{9 << 10, 1 << 20, 8<<20 + 1<<10, len(body) - 60, len(body) - 1} {
		nc, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
		c.OK(err)
		_, err = io.WriteString(nc, head+body[:sent])
		c.OK(err)
		c.Until("the upload has begun", func() bool { return c.rows() == 1 })
		c.OK(nc.Close())
		c.holds(0)
	}
	if got := c.logged(); strings.Contains(got, "level=WARN") || strings.Contains(got, "level=ERROR") {
		t.Errorf("log: %s", got)
	}
	c.Until("a visit was asked for", func() bool { return c.due() < 66*time.Minute })
}

// due is when the tenant is visited next.
func (d *drawer) due() (in time.Duration) {
	d.t.Helper()
	d.OK(d.catalog().QueryRow(d.t.Context(), `select due_at - now() from tenant_due where tenant = $1`, d.acme.ID).Scan(&in))
	return in
}

// A store that fails at any step fails the upload, and nothing is left. When it is
// away altogether, what is left has a row that a visit finds.
func testUploadStoreFails(t *testing.T, c *drawer) {
	small, large := asGo("abc", "fine-tune"), asGo(strings.Repeat("x", 9<<20), "fine-tune")
	has := func(method, query string) func(*http.Request) bool {
		return func(r *http.Request) bool { return r.Method == method && r.URL.Query().Has(query) }
	}
	for name, s := range map[string]struct {
		parts  []field
		refuse func(*http.Request) bool
	}{
		"put":      {small, func(r *http.Request) bool { return r.Method == http.MethodPut }},
		"begin":    {large, has(http.MethodPost, "uploads")},
		"part":     {large, has(http.MethodPut, "partNumber")},
		"complete": {large, has(http.MethodPost, "uploadId")},
	} {
		c.refuse(s.refuse)
		if a := upload(c.client, s.parts...); a.Status != 503 {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		} else {
			a.Refused(503, "store_unavailable", "")
		}
		c.holds(0)
	}
	c.refuse(func(*http.Request) bool { return true })
	upload(c.client, small...).Refused(503, "store_unavailable", "")
	if n, in := c.rows(), c.due(); n != 1 || in > 66*time.Minute {
		t.Errorf("%d rows, a visit in %v", n, in)
	}
	if files, _ := list(c.client, ""); len(files) != 0 {
		t.Errorf("listed: %+v", files)
	}
	c.store.Refuse(nil)
	f := uploaded(c.client, small...)
	c.refuse(func(*http.Request) bool { return true })
	c.client.Do("GET", "/v1/files/"+f.ID+"/content", "").Refused(503, "store_unavailable", "")
	if a := c.client.Do("DELETE", "/v1/files/"+f.ID, ""); a.Status != 200 { // the row is gone for all, a visit does the rest
		t.Errorf("delete: %d %s", a.Status, a.Body)
	}
	c.client.Do("GET", "/v1/files/"+f.ID, "").Refused(404, "not_found", "")
	if got := c.logged(); !strings.Contains(got, "removed by a visit") || strings.Contains(got, "blobtest-secret") {
		t.Errorf("log: %s", got)
	}
}

// What is decided while an upload is on its way holds at its end: another key's
// revocation harms nobody, the own one's does, and a lower limit counts.
func testUploadOnAnOldTruth(t *testing.T, c *drawer) {
	mine, token, err := c.Catalog.CreateKey(t.Context(), c.acme.ID, catalog.KeySpec{Name: "mine", Scopes: []string{catalog.ScopeFiles}})
	c.OK(err)
	other, _, err := c.Catalog.CreateKey(t.Context(), c.acme.ID, catalog.KeySpec{Name: "other", Scopes: []string{catalog.ScopeRead}})
	c.OK(err)
	client := c.client.With(token)
	upload(client, asGo("abc", "fine-tune")...).Into(200, &fileAnswer{}) // the node knows the key
	files := 1
	for _, step := range []struct {
		meanwhile func() error
		status    int
		code      string
	}{
		{func() error { return c.Fleet.RevokeKey(t.Context(), c.acme.ID, other.ID) }, 200, ""},
		{func() error { c.limit(10); return nil }, 429, "insufficient_quota"},
		{func() error { return c.Fleet.RevokeKey(t.Context(), c.acme.ID, mine.ID) }, 401, "invalid_api_key"},
	} {
		c.limit(1 << 20)
		body, media := form(asGo(strings.Repeat("x", 20<<10), "fine-tune")...)
		pieces, to := io.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			status, code, err := slowly(client, media, pieces)
			if err != nil || status != step.status || code != step.code {
				t.Errorf("got %d %s %v, want %d %s", status, code, err, step.status, step.code)
			}
		}()
		_, err := io.WriteString(to, body[:10<<10])
		c.OK(err)
		c.Until("the upload has begun", func() bool { return c.rows() == files+1 })
		c.OK(step.meanwhile())
		_, err = io.WriteString(to, body[10<<10:])
		c.OK(errors.Join(err, to.Close()))
		<-ended
		if step.status == 200 {
			files++
		}
		c.holds(files)
	}
}

// A tenant may have a few uploads at a time.
func testUploadsAtATime(t *testing.T, c *drawer) {
	body, media := form(asGo(strings.Repeat("x", 20<<10), "fine-tune")...)
	const most = 4
	answers := make(chan int, most)
	var ends []func()
	for range most {
		pieces, to := io.Pipe()
		go func() {
			status, _, err := slowly(c.client, media, pieces)
			if err != nil {
				t.Error(err)
			}
			answers <- status
		}()
		_, err := io.WriteString(to, body[:10<<10])
		c.OK(err)
		ends = append(ends, func() {
			_, _ = io.WriteString(to, body[10<<10:])
			_ = to.Close()
		})
	}
	c.Until("all have begun", func() bool { return c.rows() == most })
	a := upload(c.client, asGo("abc", "fine-tune")...)
	if a.Refused(429, "rate_limit_exceeded", ""); a.Header.Get("Retry-After") == "" {
		t.Errorf("headers: %v", a.Header)
	}
	_, other := c.tenant()
	uploaded(other, asGo("abc", "fine-tune")...)
	for _, end := range ends {
		end()
		if status := <-answers; status != 200 {
			t.Errorf("an upload that was let in: %d", status)
		}
	}
	uploaded(c.client, asGo("abc", "fine-tune")...)
	c.holds(most + 1)
}

// ready is a form that has arrived.
type ready struct{ body, boundary string }

func (r ready) Length() int64 { return int64(len(r.body)) }
func (r ready) Form() (*multipart.Reader, error) {
	return multipart.NewReader(strings.NewReader(r.body), r.boundary), nil
}
func (r ready) Finish() error    { return nil }
func (r ready) BodyError() error { return nil }

// A database that goes away at any statement of an upload, before it is done or
// after, leaves a whole file or nothing: else something that a visit finds.
func testUploadDatabaseFails(t *testing.T, c *drawer) {
	keeper, err := files.New(files.Config{Logger: c.Logger})
	c.OK(err)
	body, media := form(asGo("abc", "fine-tune")...)
	upload := ready{body, strings.TrimPrefix(media, "multipart/form-data; boundary=")}
	lend := func(ctx context.Context, fn func(context.Context, *tenantdb.DB) error) error {
		tenant, err := c.Catalog.Tenant(ctx, c.acme.ID)
		c.OK(err)
		return c.Router.For(tenant.ID, tenant.Epoch).Borrow(ctx, tenantdb.Interactive, fn)
	}
	// Of an upload: what is stored, the row, the end; then the clearing.
	const count, begin, end = 1, 2, 3
	for name, f := range map[string]struct {
		lost   map[int]bool // the statement: whether it was done all the same
		failed bool
		left   int // files
		rows   int
	}{
		"no count":            {map[int]bool{count: false}, true, 0, 0},
		"no row":              {map[int]bool{begin: false}, true, 0, 0},
		"row, not told":       {map[int]bool{begin: true}, true, 0, 0},
		"row, not dropped":    {map[int]bool{begin: true, begin + 1: false}, true, 0, 1},
		"no end, once":        {map[int]bool{end: false}, false, 1, 1},
		"end, not told":       {map[int]bool{end: true}, false, 1, 1},
		"no end, twice":       {map[int]bool{end: false, end + 1: false}, true, 0, 1},
		"end, not told twice": {map[int]bool{end: true, end + 1: true}, true, 1, 1},
	} {
		var calls atomic.Int32
		lose := func(ctx context.Context, fn func(context.Context, *tenantdb.DB) error) error {
			done, lost := f.lost[int(calls.Add(1))]
			if !lost || done {
				if err := lend(ctx, fn); err != nil {
					return err
				}
			}
			if lost {
				return fmt.Errorf("%w: gone", tenantdb.ErrUnavailable)
			}
			return nil
		}
		who := files.Who{
			Lend: lose, Tidy: lose,
			Scope: c.acme.ID.String(), Objects: c.store.Tenant(c.acme.ID), APIKey: "k", Limit: 1 << 20,
			Due: func(ctx context.Context, in time.Duration) error { return c.Catalog.MarkDue(ctx, c.acme.ID, in) },
		}
		made, err := keeper.Create(t.Context(), who, upload)
		if (err != nil) != f.failed || err != nil && !errors.Is(err, tenantdb.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if sum := sha256.Sum256([]byte("abc")); err == nil && (string(made.Sum) != string(sum[:]) || made.Bytes != 3) {
			t.Errorf("%s: %+v", name, made)
		}
		found, _ := list(c.client, "")
		if len(found) != f.left || c.rows() != f.rows || len(found) > c.objects() {
			t.Errorf("%s: %d files, %d rows, %d objects", name, len(found), c.rows(), c.objects())
		}
		c.sweep()
		if c.rows() != c.objects() || c.rows() != f.left {
			t.Errorf("%s, swept: %d rows, %d objects", name, c.rows(), c.objects())
		}
		for _, file := range found {
			c.client.Do("DELETE", "/v1/files/"+file.ID, "")
		}
	}
}

// sweep does what a visit does for uploads, without their hour's grace.
func (d *drawer) sweep() {
	d.t.Helper()
	tenant, err := d.Catalog.Tenant(d.t.Context(), d.acme.ID)
	d.OK(err)
	d.OK(d.Router.For(tenant.ID, tenant.Epoch).Borrow(d.t.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		stale, err := db.StaleFiles(ctx, 0)
		for _, f := range stale {
			err = errors.Join(err, d.store.Tenant(d.acme.ID).Delete(ctx, "files/"+f.ID.String()), db.DropFile(ctx, f.ID))
		}
		return err
	}))
}
