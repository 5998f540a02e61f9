package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
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

// locked reports whether others held what was needed, so that a later try may do.
func locked(err error) bool {
	s := state(err)
	return s == stateLockTimeout || s == stateDeadlock
}

// jitter is between half and all of 200 ms, 400 ms, 800 ms, …
func jitter(try int) time.Duration {
	d := 100 * time.Millisecond << try
	return d/2 + rand.N(d/2) //nolint:gosec // not a secret
}

// reason says in a few words why a database could not be worked on.
func reason(ctx context.Context, err error) string {
	where := ""
	if m, ok := errors.AsType[*migrations.Error](err); ok {
		where = m.File + ": "
	}
	err = translate(ctx, err)
	switch {
	case errors.Is(err, context.Canceled):
		return where + "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return where + "out of time"
	case errors.Is(err, migrations.ErrAhead):
		return migrations.ErrAhead.Error()
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return where + r.Error()
	}
	for _, plain := range []error{tenantdb.ErrUnavailable, ErrStore} {
		if errors.Is(err, plain) {
			return where + plain.Error()
		}
	}
	return where + err.Error()
}
