package admin_test

import (
	"testing"
	"time"

	"freehold/catalog"
)

type operationView struct {
	ID, Kind, State, Tenant, Actor string
	Steps                          []struct{ Name, State string }
}

func TestOperations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, _ := b.Tenant("acme")
	globex, _ := b.Tenant("globex")
	for _, id := range []catalog.TenantID{acme.ID, globex.ID} {
		_, err := b.Catalog.BeginOperation(t.Context(), catalog.OperationSpec{Kind: "polish", Tenant: id, Actor: "test", Steps: []string{"one", "two"}})
		b.OK(err)
	}
	var page list[operationView]
	b.client.Do("GET", "/admin/v1/operations?kind=polish&limit=1", "").Into(200, &page)
	if len(page.Data) != 1 || !page.HasMore || page.Data[0].Tenant != "globex" || len(page.Data[0].Steps) != 2 {
		t.Fatalf("first page: %+v", page)
	}
	newest := page.Data[0]
	page = list[operationView]{}
	b.client.Do("GET", "/admin/v1/operations?kind=polish&limit=1&after="+newest.ID, "").Into(200, &page)
	if len(page.Data) != 1 || page.HasMore || page.Data[0].Tenant != "acme" {
		t.Errorf("second page: %+v", page)
	}
	for query, want := range map[string]int{"state=waiting&kind=polish": 2, "state=failed": 0, "tenant=acme&kind=polish": 1, "tenant=nobody": 0} {
		page = list[operationView]{}
		b.client.Do("GET", "/admin/v1/operations?"+query, "").Into(200, &page)
		if len(page.Data) != want {
			t.Errorf("%s: %+v", query, page)
		}
	}
	b.client.Do("GET", "/admin/v1/operations?state=bogus", "").Refused(400, "invalid_request", "state")
	b.client.Do("GET", "/admin/v1/operations?after=x", "").Refused(400, "invalid_request", "after")
	for _, call := range [][2]string{{"GET", ""}, {"POST", "/retry"}, {"POST", "/cancel"}} {
		for _, id := range []string{"nope", catalog.NewTenantID().String()} {
			b.client.Do(call[0], "/admin/v1/operations/"+id+call[1], "").Refused(404, "not_found", "")
		}
	}

	var o operationView
	b.client.Do("POST", "/admin/v1/operations/"+newest.ID+"/cancel", "").Into(200, &o)
	if o.State != catalog.OperationCancelled {
		t.Errorf("cancelled: %+v", o)
	}
	b.client.Do("POST", "/admin/v1/operations/"+newest.ID+"/retry", "").Refused(409, "conflict", "")
	b.client.Do("POST", "/admin/v1/operations/"+newest.ID+"/cancel", "").Refused(409, "conflict", "")
	mine, err := b.Catalog.Operations(t.Context(), catalog.OperationFilter{Tenant: "acme", Kind: "polish"})
	b.OK(err)
	other := mine[0].ID
	// It waits for its time, and has failed at nothing yet.
	b.client.Do("POST", "/admin/v1/operations/"+other+"/retry", "").Refused(409, "conflict", "")
	taken, err := b.Catalog.TakeOperation(t.Context(), other, catalog.Taker{Worker: "test", Lease: time.Minute})
	b.OK(err)
	b.OK(b.Catalog.EndOperation(t.Context(), taken, catalog.OperationFailed, "it broke", 0))
	b.client.Do("POST", "/admin/v1/operations/"+other+"/retry", "").Into(200, &o)
	if o.State != catalog.OperationWaiting || o.ID != other {
		t.Errorf("retried: %+v", o)
	}
	b.audited("operation.cancel", "operation.retry")
}

func TestTenantFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Tenant("acme")
	for query, want := range map[string]int{
		"schema=%3E%3D1": 1, "schema=%3C1": 0, "older_than=30d": 0, "newer_than=1h": 1, "label=x": 0, "server=nope": 0,
	} {
		var page list[catalogTenant]
		b.client.Do("GET", "/admin/v1/tenants?"+query, "").Into(200, &page)
		if len(page.Data) != want {
			t.Errorf("%s: %+v", query, page.Data)
		}
	}
	for _, name := range []string{"schema", "older_than", "newer_than"} {
		b.client.Do("GET", "/admin/v1/tenants?"+name+"=x", "").Refused(400, "invalid_request", name)
	}
}
