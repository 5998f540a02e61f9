package admin_test

import (
	"testing"

	"freehold/catalog"
)

func TestExports(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, _ := b.Tenant("acme")
	other, _ := b.Tenant("other")
	const path = "/admin/v1/tenants/acme/export"
	b.client.Do("POST", path, "").Refused(503, "store_unavailable", "") // there is none here
	b.client.Do("POST", "/admin/v1/tenants/nope/export", "").Refused(404, "not_found", "")
	made, err := b.Catalog.BeginExport(t.Context(), catalog.ExportSpec{Tenant: acme.ID, Actor: "operator:ann", Steps: []string{"write"}},
		func(id string) string { return "exports/" + id })
	b.OK(err)
	type export struct{ ID, State, Actor string }
	var page struct{ Data []export }
	b.client.Do("GET", path+"s", "").Into(200, &page)
	if len(page.Data) != 1 || page.Data[0].ID != made.ID || page.Data[0].State != catalog.ExportWaiting {
		t.Errorf("listed: %+v", page)
	}
	b.client.Do("GET", path+"s?after=x", "").Refused(400, "invalid_request", "after")
	var one export
	b.client.Do("GET", path+"s/"+made.ID, "").Into(200, &one)
	if one.ID != made.ID || one.Actor != "operator:ann" {
		t.Errorf("shown: %+v", one)
	}
	b.client.Do("GET", "/admin/v1/tenants/"+other.Slug+"/exports/"+made.ID, "").Refused(404, "not_found", "")
}
