package admin_test

import (
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

func TestDeleteAndUndelete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	acme, key := b.Tenant("acme")
	type operation struct {
		ID, Kind, Tenant, State, Actor string
		RunAt                          time.Time `json:"run_at"`
		Steps                          []struct{ Name, State string }
	}
	var first, again operation
	c.Do("DELETE", "/admin/v1/tenants/acme", "").Into(202, &first)
	if first.Kind != "delete" || first.Tenant != "acme" || first.State != "waiting" || first.Actor != "admin-token" || len(first.Steps) != 11 {
		t.Errorf("%+v", first)
	}
	if wait := time.Until(first.RunAt); wait < 167*time.Hour || wait > 168*time.Hour {
		t.Errorf("waits for %s", wait)
	}
	b.Until("the key is refused", func() bool {
		_, err := b.Cache.Authenticate(t.Context(), key)
		return err != nil
	})
	c.Do("POST", "/admin/v1/tenants/acme/delete?grace=2h", "").Into(202, &again)
	if again.ID != first.ID || time.Until(again.RunAt) > 2*time.Hour {
		t.Errorf("brought forward: %+v", again)
	}
	for _, bad := range []string{"soon", "-1h", "9000h"} {
		c.Do("DELETE", "/admin/v1/tenants/acme?grace="+bad, "").Refused(400, "invalid_request", "grace")
	}
	c.Do("POST", "/admin/v1/tenants/acme/suspend", "").Refused(409, "conflict", "")
	c.Do("GET", "/admin/v1/tenants/acme/receipt", "").Refused(404, "not_found", "")

	var got catalogTenant
	c.Do("POST", "/admin/v1/tenants/acme/undelete", "").Into(200, &got)
	if got.State != "suspended" {
		t.Errorf("%+v", got)
	}
	c.Do("POST", "/admin/v1/tenants/acme/undelete", "").Refused(409, "conflict", "")
	c.Do("POST", "/admin/v1/tenants/acme/resume", "").Into(200, &got)

	c.Do("DELETE", "/admin/v1/tenants/acme?grace=0s", "").Into(202, &again)
	if again.ID == first.ID || time.Until(again.RunAt) > 0 {
		t.Errorf("at once: %+v", again)
	}
	for _, path := range []string{"", "/delete", "/undelete"} {
		method := "POST"
		if path == "" {
			method = "DELETE"
		}
		c.Do(method, "/admin/v1/tenants/nobody"+path, "").Refused(404, "not_found", "")
	}
	for _, nobody := range []string{"nobody", "No%20Slug", catalog.NewTenantID().String()} {
		c.Do("GET", "/admin/v1/tenants/"+nobody+"/receipt", "").Refused(404, "not_found", "")
	}
	b.audited("tenant.delete", "tenant.delete", "tenant.undelete", "tenant.resume", "tenant.delete")

	// Busy with another operation: 409, and it is named.
	globex, _ := b.Tenant("globex")
	other, err := b.Catalog.BeginOperation(t.Context(), catalog.OperationSpec{Kind: "backup", Tenant: globex.ID, Actor: "x", Steps: []string{"one"}})
	b.OK(err)
	a := c.Do("DELETE", "/admin/v1/tenants/globex", "")
	a.Refused(409, "conflict", "")
	if !strings.Contains(a.Body, other.ID) {
		t.Errorf("doesn't name the operation: %s", a.Body)
	}
	if now, err := b.Catalog.Tenant(t.Context(), acme.ID); err != nil || now.State != catalog.Deleting {
		t.Errorf("%s %v", now.State, err)
	}
}
