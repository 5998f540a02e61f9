package api_test

import (
	"context"
	"strings"
	"testing"

	"freehold/tenantdb"
)

// entry is a row as a client reads it.
type entry struct {
	ID, Object, Actor, Action, Subject string
	Detail                             map[string]any
	Seal                               *int64
	PayloadHash                        *string `json:"payload_hash"`
}

type entries struct {
	Data    []entry
	HasMore bool `json:"has_more"`
}

// What a tenant did stands in its audit, is sealed, and can be verified by itself.
func TestAudit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if a := b.client.Do("POST", "/v1/chat/completions", hello); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	in := func(fn func(ctx context.Context, db *tenantdb.DB) error) {
		t.Helper()
		tenant, err := b.Catalog.Tenant(t.Context(), b.acme.ID)
		b.OK(err)
		b.OK(b.Router.For(tenant.ID, tenant.Epoch).Borrow(t.Context(), tenantdb.Interactive, fn))
	}
	in(func(ctx context.Context, db *tenantdb.DB) error {
		return db.AddAuditEvent(ctx, "system", "retention", "", map[string]any{"rows": 3})
	})
	var list entries
	read := func(query string) []entry {
		t.Helper()
		list = entries{}
		b.client.Do("GET", "/v1/audit"+query, "").Into(200, &list)
		return list.Data
	}
	if got := read(""); len(got) != 2 || list.HasMore || got[0].Action != "retention" || got[0].Seal != nil || got[0].Detail["rows"] != 3.0 ||
		got[1].Action != "prediction" || !strings.HasPrefix(got[1].Actor, "key:") || !strings.HasPrefix(got[1].Subject, "pred_") || got[1].PayloadHash == nil {
		t.Fatalf("%+v", got)
	}
	first := read("?limit=1")
	if next := read("?limit=1&after=" + first[0].ID); len(next) != 1 || next[0].Action != "prediction" || list.HasMore {
		t.Errorf("%+v", next)
	}
	if got := read("?action=prediction"); len(got) != 1 || got[0].Action != "prediction" {
		t.Errorf("%+v", got)
	}
	if got := read("?action=nothing"); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	b.client.Do("GET", "/v1/audit?after=pred_1", "").Refused(400, "invalid_request", "after")

	var report struct {
		Object, Head, Why string
		OK                bool
		Rows, Unsealed    int64
		Payloads          *tenantdb.PayloadCheck
		PublicKeys        map[string]string `json:"public_keys"`
	}
	verify := func(query string) {
		t.Helper()
		report.Payloads = nil
		b.client.Do("GET", "/v1/audit/verify"+query, "").Into(200, &report)
	}
	verify("")
	if !report.OK || report.Rows != 0 || report.Unsealed != 2 || report.Payloads != nil {
		t.Errorf("not sealed yet: %+v", report)
	}
	in(func(ctx context.Context, db *tenantdb.DB) error {
		_, _, err := db.Seal(ctx, b.acme.ID, b.Catalog.SignAudit)
		return err
	})
	verify("?payloads=true")
	if !report.OK || report.Object != "audit_verification" || report.Rows != 2 || report.Unsealed != 0 || len(report.Head) != 64 || len(report.PublicKeys) != 1 ||
		report.Payloads == nil || report.Payloads.Same != 1 {
		t.Errorf("sealed: %+v %+v", report, report.Payloads)
	}
	b.client.Do("GET", "/v1/audit/verify?payloads=perhaps", "").Refused(400, "invalid_request", "payloads")
}
