package fleet

import (
	"context"

	"freehold/catalog"
)

// page is how many tenants are asked for at a time.
const page = 500

// tenants reads every tenant that keep wants.
func (f *Fleet) tenants(ctx context.Context, keep func(catalog.Tenant) bool) (list []catalog.Tenant, err error) {
	filter := catalog.TenantFilter{Limit: page}
	for {
		some, err := f.cat.Tenants(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, t := range some {
			if keep(t) {
				list = append(list, t)
			}
		}
		if len(some) < page {
			return list, nil
		}
		filter.After = some[len(some)-1].Slug
	}
}
