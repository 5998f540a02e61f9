package admin

import (
	"context"
	"strconv"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

var auditFilters = append([]rest.Query{
	{Name: "tenant", Type: "string", Summary: "Only what was done to tenants of this slug, deleted ones too."},
	{Name: "actor", Type: "string", Summary: "Only what this operator did."},
	{Name: "action", Type: "string", Summary: "Only this action."},
	{Name: "order", Type: "string", Summary: "desc, the newest first, or asc."},
}, rest.Paging...)

func (s *server) auditRows(ctx context.Context, _ operator, r *rest.Request) (page rest.List[catalog.AuditRow], err error) {
	limit, after, err := r.Page(100, 1000)
	if err != nil {
		return page, err
	}
	f := catalog.AuditFilter{
		Tenant: r.Query("tenant"), Actor: r.Query("actor"), Action: r.Query("action"), Limit: limit + 1,
	}
	if after != "" {
		if f.After, err = strconv.ParseInt(after, 10, 64); err != nil || f.After < 1 {
			return page, rest.Bad("after", "after is the seq of the last row of the page before.")
		}
	}
	switch r.Query("order") {
	case "", "desc":
	case "asc":
		f.Oldest = true
	default:
		return page, rest.Bad("order", "order is asc or desc.")
	}
	// One more than asked for tells whether there are more.
	list, err := s.catalog.AuditRows(ctx, f)
	if err != nil {
		return page, err
	}
	return rest.Page(list, limit, func(row catalog.AuditRow) string { return strconv.FormatInt(row.Seq, 10) }), nil
}

func (s *server) verifyAudit(ctx context.Context, _ operator, _ *rest.Request) (catalog.AuditCheck, error) {
	return s.catalog.VerifyAudit(ctx)
}
