package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/cmd/freehold/api"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/tenantdb/archive"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// exportAnswer is an export as a client reads it.
type exportAnswer struct {
	ID, Object, Status string
	SHA256             *string
	URL                string
	Bytes, Rows        int64
	CreatedAt          int64  `json:"created_at"`
	ExpiresAt          *int64 `json:"expires_at"`
	Error              *string
}

// A tenant takes its data along by itself, and nobody else's.
func TestExport(t *testing.T) {
	t.Parallel()
	p := resttest.Open(t)
	store := p.Store()
	f, err := fleet.New(fleet.Config{Catalog: p.Catalog, Blob: store.Store})
	p.OK(err)
	b := setupWith(t, p, func(cfg *api.Config) {
		cfg.Objects = func(id catalog.TenantID) *blob.Objects { return store.Tenant(id) }
		cfg.Exports.Begin = f.BeginExport
	})
	b.Until("the node knows the tenant", func() bool { return b.client.Do("GET", "/v1/export", "").Status == 200 })
	const path = "/v1/export"
	var begun, again, shown exportAnswer
	b.client.Do("POST", path, "", "Idempotency-Key", "a").Into(202, &begun)
	b.client.Do("POST", path, "", "Idempotency-Key", "a").Into(202, &again)
	if begun.Object != "export" || begun.Status != "queued" || again.ID != begun.ID || begun.CreatedAt == 0 || begun.SHA256 != nil {
		t.Errorf("begun %+v, then %+v", begun, again)
	}
	b.client.Do("POST", path, "").Refused(409, "conflict", "")
	b.client.Do("GET", path+"/"+begun.ID+"/content", "").Refused(409, "conflict", "")
	p.OK(f.Do(t.Context(), strings.TrimPrefix(begun.ID, "export-")))
	b.client.Do("GET", path+"/"+begun.ID, "").Into(200, &shown)
	if shown.Status != "completed" || shown.SHA256 == nil || shown.ExpiresAt == nil || shown.Error != nil || !strings.HasPrefix(shown.URL, "http") {
		t.Fatalf("made: %+v", shown)
	}
	content := b.client.Do("GET", path+"/"+begun.ID+"/content", "")
	sum := sha256.Sum256([]byte(content.Body))
	if content.Status != 200 || hex.EncodeToString(sum[:]) != *shown.SHA256 || int64(len(content.Body)) != shown.Bytes ||
		!strings.Contains(content.Header.Get("Content-Disposition"), "acme-") {
		t.Errorf("%d, %d bytes, %v", content.Status, len(content.Body), content.Header)
	}
	part := b.client.Do("GET", path+"/"+begun.ID+"/content", "", "Range", "bytes=10-19")
	if part.Status != 206 || part.Body != content.Body[10:20] {
		t.Errorf("a range: %d %q", part.Status, part.Body)
	}
	m, err := archive.Read(t.Context(), bytes.NewReader([]byte(content.Body)), nil)
	if p.OK(err); m.Tenant != b.acme.ID.String() {
		t.Errorf("it is %s's", m.Tenant)
	}
	var page struct {
		Data []exportAnswer
		More bool `json:"has_more"`
	}
	b.client.Do("GET", path+"?limit=1", "").Into(200, &page)
	if len(page.Data) != 1 || page.Data[0].ID != begun.ID || page.Data[0].URL != "" || page.More {
		t.Errorf("listed: %+v", page)
	}
	b.client.Do("GET", path+"?after=x", "").Refused(400, "invalid_request", "after")

	_, token := b.Tenant("other")
	other := b.client.With(token)
	b.Until("the node knows the other tenant", func() bool { return other.Do("GET", path, "").Status == 200 })
	for _, of := range []string{"/" + begun.ID, "/" + begun.ID + "/content", "/export-x", "/" + strings.TrimPrefix(begun.ID, "export-")} {
		other.Do("GET", path+of, "").Refused(404, "not_found", "")
	}
	conn := b.catalog()
	_, err = conn.Exec(context.WithoutCancel(t.Context()), `update exports set expires_at = now()`)
	p.OK(err)
	b.client.Do("GET", path+"/"+begun.ID, "").Into(200, &shown)
	if shown.Status != "expired" {
		t.Errorf("after its time: %+v", shown)
	}
	b.client.Do("GET", path+"/"+begun.ID+"/content", "").Refused(404, "not_found", "")
	if log := b.Logs.String(); strings.Contains(log, "X-Amz-Signature") {
		t.Error("an address that is as good as a key is in the log")
	}
}
