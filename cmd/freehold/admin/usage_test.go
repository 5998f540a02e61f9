package admin_test

import (
	"testing"
	"time"

	"freehold/catalog"
)

// invoice is one as a client reads it.
type invoice struct {
	Month string
	Lines []struct {
		Slug string `json:"tenant"`
		Cost string
	}
	Total struct {
		Requests int64
		CostNano int64 `json:"cost_nano"`
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, _ := b.Tenant("acme")
	b.OK(b.Catalog.RollUp(t.Context(), acme.ID, []catalog.Usage{
		{Day: time.Date(2020, 11, 3, 0, 0, 0, 0, time.UTC), Model: "m", Requests: 2, PromptTokens: 30, CompletionTokens: 4, Cost: 1_500_000_000},
		{Day: time.Now().UTC(), Model: "m", Requests: 1, Cost: 1},
	}))
	for _, path := range []string{"/admin/v1/tenants/acme/usage", "/admin/v1/tenants/" + acme.ID.String() + "/usage", "/admin/v1/usage"} {
		var in invoice
		b.client.Do("GET", path+"?month=2020-11", "").Into(200, &in)
		if in.Month != "2020-11" || len(in.Lines) != 1 || in.Lines[0].Slug != "acme" || in.Lines[0].Cost != "1.50" || in.Total.CostNano != 1_500_000_000 || in.Total.Requests != 2 {
			t.Errorf("%s: %+v", path, in)
		}
		in = invoice{}
		b.client.Do("GET", path, "").Into(200, &in)
		if in.Month != time.Now().UTC().Format(catalog.MonthLayout) || len(in.Lines) != 1 {
			t.Errorf("%s: this month: %+v", path, in)
		}
		b.client.Do("GET", path+"?month=2026-13", "").Refused(400, "invalid_request", "month")
	}
	b.client.Do("GET", "/admin/v1/tenants/nope/usage", "").Refused(404, "not_found", "")
}
