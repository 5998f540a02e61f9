package admin

import (
	"context"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

var usageQuery = []rest.Query{{Name: "month", Type: "string", Summary: "Such as 2026-11 (UTC); this month when not given."}}

// usage answers also for deleted tenants: their bills are still to be paid.
func (s *server) usage(ctx context.Context, _ operator, r *rest.Request) (catalog.Invoice, error) {
	return s.invoice(ctx, r, r.Param("slug"))
}

func (s *server) allUsage(ctx context.Context, _ operator, r *rest.Request) (catalog.Invoice, error) {
	return s.invoice(ctx, r, "")
}

func (s *server) invoice(ctx context.Context, r *rest.Request, tenant string) (catalog.Invoice, error) {
	month := time.Now().UTC()
	if text := r.Query("month"); text != "" {
		var err error
		if month, err = catalog.ParseMonth("month", text); err != nil {
			return catalog.Invoice{}, err
		}
	}
	return s.catalog.Invoice(ctx, tenant, time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, time.UTC))
}
