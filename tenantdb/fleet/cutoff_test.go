package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// Cut off in the middle of any statement, again and again, a creation comes to its
// end: one tenant, one database, one role, one key.
func TestCreateGoesOnWhenCutOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenants, cuts := 4, 3
	if pgtest.Long() {
		tenants, cuts = 40, 8
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range tenants {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			b.cutOff(b.fleet, fmt.Sprintf("cut-%02d", i), cuts)
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	list, err := b.cat.Tenants(t.Context(), catalog.TenantFilter{})
	b.ok(err)
	if len(list) != tenants {
		t.Fatalf("%d tenants, want %d", len(list), tenants)
	}
	for _, made := range list {
		b.whole(made, nil)
	}
}

// cutOff creates a tenant, its context cut off some times at random moments.
func (b *bench) cutOff(f *fleet.Fleet, slug string, cuts int) {
	for try := 0; ; try++ {
		// The last ones take as long as they need.
		ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
		if try < cuts {
			time.AfterFunc(time.Duration(rand.IntN(250))*time.Millisecond, cancel)
		}
		_, token, err := f.Create(ctx, catalog.TenantSpec{Slug: slug})
		cut := ctx.Err() != nil
		cancel()
		switch {
		case token != "", errors.Is(err, catalog.ErrExists): // made now, or by a try that was cut off behind its last step
			return
		case !cut || try >= cuts:
			b.Errorf("%s: try %d: %v", slug, try, err)
			return
		}
	}
}
