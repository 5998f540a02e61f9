package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/cmd/freehold/api"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
)

// maxFile is the longest file here: more than the store takes in one part.
const maxFile = 10 << 20

// cabinet is a node with an object store, that many tests share.
type cabinet struct {
	*bench
	store *resttest.Store
	made  atomic.Int32 // drawers
}

func setupFiles(t *testing.T) *cabinet {
	t.Helper()
	p := resttest.Open(t)
	c := &cabinet{store: p.Store()}
	c.bench = setupWith(t, p, func(cfg *api.Config) {
		cfg.MaxFile = maxFile
		cfg.Objects = func(id catalog.TenantID) *blob.Objects { return c.store.Tenant(id) }
	})
	return c
}

// drawer is what one test has of it: a tenant, and a look at its database.
type drawer struct {
	*cabinet
	t      *testing.T
	acme   catalog.Tenant
	client resttest.Client
	conn   *pgx.Conn // as the administrator
}

func (c *cabinet) drawer(t *testing.T) *drawer {
	t.Helper()
	d := &drawer{cabinet: c, t: t}
	d.acme, d.client = d.tenant()
	u, err := url.Parse(pgtest.AdminURL(t))
	d.OK(err)
	u.Path = "/" + d.acme.Database
	d.conn, err = pgx.Connect(t.Context(), u.String())
	d.OK(err)
	t.Cleanup(func() { _ = d.conn.Close(context.WithoutCancel(t.Context())) })
	return d
}

// tenant makes one more.
func (d *drawer) tenant() (catalog.Tenant, resttest.Client) {
	d.t.Helper()
	made, token, err := d.Fleet.Create(d.t.Context(), catalog.TenantSpec{Slug: fmt.Sprintf("files-%d", d.made.Add(1))})
	d.OK(err)
	return made, resttest.Client{T: d.t, URL: d.url, Token: token}
}

// OK and Until are the platform's, of this test alone.
func (d *drawer) OK(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *drawer) Until(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// refuse has the store refuse what fn says of the tenant's objects; nil: nothing.
func (d *drawer) refuse(fn func(*http.Request) bool) {
	d.store.Refuse(func(r *http.Request) bool {
		return fn != nil && strings.Contains(r.URL.Path, d.acme.ID.String()) && fn(r)
	})
}

// bare is the tenant at a door of the same node that has no object store.
func (d *drawer) bare() *bench {
	d.t.Helper()
	b := &bench{Platform: d.Platform, acme: d.acme, client: d.client}
	cfg := b.config()
	var err error
	b.door, err = api.New(cfg)
	b.url = b.Serve(b.door, err)
	b.client.URL = b.url
	return b
}

// logged are the log's lines that name the tenant.
func (d *drawer) logged() string {
	var lines []string
	for line := range strings.Lines(d.Logs.String()) {
		if strings.Contains(line, d.acme.ID.String()) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// fileAnswer is a file as a client reads it.
type fileAnswer struct {
	ID, Object, Filename, Purpose, Status string
	Bytes                                 int64
	CreatedAt                             int64  `json:"created_at"`
	ExpiresAt                             *int64 `json:"expires_at"`
}

// field is a part of a form; with a name it is a file.
type field struct{ key, value, file string }

// asGo is a form as openai-go sends it: the file first.
func asGo(content, purpose string) []field {
	return []field{{"file", content, "anonymous_file"}, {"purpose", purpose, ""}}
}

// form writes parts and returns the body and its content type.
func form(parts ...field) (body, media string) {
	var b strings.Builder
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		var to io.Writer
		if p.file != "" {
			to, _ = w.CreateFormFile(p.key, p.file)
		} else {
			to, _ = w.CreateFormField(p.key)
		}
		_, _ = io.WriteString(to, p.value)
	}
	_ = w.Close()
	return b.String(), w.FormDataContentType()
}

// upload sends a form.
func upload(c resttest.Client, parts ...field) resttest.Answer {
	c.T.Helper()
	body, media := form(parts...)
	return c.Do("POST", "/v1/files", body, "Content-Type", media)
}

// uploaded sends a file, and reads what was made of it.
func uploaded(c resttest.Client, parts ...field) (f fileAnswer) {
	c.T.Helper()
	upload(c, parts...).Into(200, &f)
	return f
}

// rows counts the rows that the tenant's database has of files.
func (d *drawer) rows() (n int) {
	d.t.Helper()
	d.OK(d.conn.QueryRow(d.t.Context(), `select count(*) from freehold.files`).Scan(&n))
	return n
}

// objects counts what lies under files/ of the tenant's prefix.
func (d *drawer) objects() (n int) {
	d.t.Helper()
	d.OK(d.store.Tenant(d.acme.ID).List(d.t.Context(), "files/", func(blob.Object) error { n++; return nil }))
	return n
}

// holds waits until the tenant has this many files, as rows and as objects, and no
// upload that nobody finished.
func (d *drawer) holds(files int) {
	d.t.Helper()
	d.Until(fmt.Sprintf("there are %d files, and nothing else", files), func() bool {
		return d.rows() == files && d.objects() == files && d.store.Uploads(d.acme.ID) == 0
	})
}

// list reads a page of files and whether there are more.
func list(c resttest.Client, query string) (files []fileAnswer, more bool) {
	c.T.Helper()
	var page struct {
		Object  string
		Data    []fileAnswer
		FirstID *string `json:"first_id"`
		LastID  *string `json:"last_id"`
		HasMore *bool   `json:"has_more"`
	}
	c.Do("GET", "/v1/files"+query, "").Into(200, &page)
	if page.Object != "list" || page.HasMore == nil || len(page.Data) > 0 &&
		(*page.FirstID != page.Data[0].ID || *page.LastID != page.Data[len(page.Data)-1].ID) {
		c.T.Errorf("page: %+v", page)
		return nil, false
	}
	return page.Data, *page.HasMore
}

// limit sets how much the tenant may store.
func (d *drawer) limit(bytes int64) {
	d.t.Helper()
	_, err := d.Fleet.PatchConfig(d.t.Context(), d.acme.ID, catalog.ConfigPatch{FileStorageLimit: &bytes})
	d.OK(err)
}

// code is an error's, of an answer that was read by hand.
func code(r io.Reader) string {
	var body struct{ Error struct{ Code string } }
	_ = json.NewDecoder(r).Decode(&body)
	return body.Error.Code
}

// slowly uploads what pieces gives, in chunks, until it is closed, and returns the
// answer's status and code.
func slowly(c resttest.Client, media string, pieces io.Reader) (int, string, error) {
	req, err := http.NewRequestWithContext(c.T.Context(), http.MethodPost, c.URL+"/v1/files", pieces)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("Authorization", "Bearer "+c.Token)
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	return resp.StatusCode, code(resp.Body), nil
}
