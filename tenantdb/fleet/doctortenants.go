package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
)

// creations finds those that nobody is making any more.
func (d *diagnosis) creations(ctx context.Context, tenants []catalog.Tenant) error {
	for _, t := range tenants {
		if t.State != catalog.Provisioning {
			continue
		}
		one, err := d.cat.Resident(ctx, t.ID)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return fmt.Errorf("doctor: %w", err)
		}
		if err == nil && !one.Busy && one.State == string(catalog.Provisioning) {
			d.bad("tenant "+t.Slug+" is half made", "freehold tenant create "+t.Slug)
		}
	}
	return nil
}

// schemas finds tenants that are served, and behind in one of the streams. Suspended
// ones are brought up when they are resumed.
func (d *diagnosis) schemas(ctx context.Context, tenants []catalog.Tenant) error {
	product, err := d.product(ctx)
	if err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	rolledOut, err := product.Latest()
	if err != nil {
		return fmt.Errorf("doctor: the product's migrations: %w", err)
	}
	behind, ahead, withoutProduct := 0, 0, 0
	for _, t := range tenants {
		if t.State == catalog.Provisioning || t.State == catalog.Deleting {
			continue
		}
		served := t.State != catalog.Suspended
		if served && t.ProductVersion < rolledOut {
			withoutProduct++
		}
		switch {
		case served && t.SchemaVersion < d.latest:
			behind++
		case t.SchemaVersion > d.latest:
			ahead++
		}
	}
	if withoutProduct > 0 {
		d.bad(fmt.Sprintf("%d of %d tenants are behind the product's schema %d", withoutProduct, len(tenants), rolledOut),
			"freehold migrate status, and freehold migrate up --dir DIR with the product's migrations")
	}
	if behind > 0 {
		d.bad(fmt.Sprintf("%d of %d tenants are behind schema %d", behind, len(tenants), d.latest), "freehold migrate up")
	}
	if ahead > 0 {
		d.bad(fmt.Sprintf("%d of %d tenants are ahead of schema %d", ahead, len(tenants), d.latest),
			"run the newer freehold that migrated them")
	}
	if behind+ahead == 0 {
		d.ok("%d tenants, none behind or ahead of schema %d", len(tenants), d.latest)
	}
	return nil
}

const selectFence = `select fence from freehold.tenant_identity`

// fences finds databases that have seen a later truth than the catalog tells: the
// catalog was restored from before it. Those on servers that are away aren't asked,
// since each would cost a timeout.
func (d *diagnosis) fences(ctx context.Context, tenants []catalog.Tenant, awayServers map[string]bool) {
	var (
		mu     sync.Mutex // guards ahead, away
		ahead  []string
		away   []string
		unseen int
		group  errgroup.Group
	)
	group.SetLimit(proveParallel)
	for _, t := range tenants {
		switch {
		case t.State == catalog.Provisioning, t.State == catalog.Deleting:
			continue // there may be no database yet, or any more
		case awayServers[t.Server]:
			unseen++
			continue
		}
		group.Go(func() error {
			fence, err := d.readFence(ctx, t)
			if err == nil && fence <= t.Epoch {
				return nil
			}
			// It may have been changed, moved or deleted since the list was read. The
			// catalog is written before the fence, so what it says now isn't older.
			now, nerr := d.cat.Tenant(ctx, t.ID)
			if errors.Is(nerr, catalog.ErrNotFound) {
				return nil
			}
			if nerr == nil {
				t.Epoch = now.Epoch
			}
			left := nerr == nil && (now.Server != t.Server || now.State == catalog.Deleting || now.State == catalog.Deleted)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil && !left:
				away = append(away, t.Slug)
			case err == nil && fence > t.Epoch:
				ahead = append(ahead, t.Slug)
			}
			return nil
		})
	}
	_ = group.Wait() // failures are in away
	if unseen > 0 {
		d.bad(fmt.Sprintf("the databases of %d tenants were not looked at: their servers are down or don't answer", unseen),
			"see to the servers first")
	}
	if len(away) > 0 {
		d.bad("no answer from the databases of: "+few(away), "freehold tenant prove SLUG, and look at their server")
	}
	if len(ahead) > 0 {
		d.bad("the catalog is older than the databases of: "+few(ahead), "restore the newest backup: freehold catalog restore")
	}
	if unseen+len(away)+len(ahead) == 0 {
		d.ok("every tenant's database answers, none ahead of the catalog")
	}
}

func (d *diagnosis) readFence(ctx context.Context, t catalog.Tenant) (fence int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	conn, err := d.owner(ctx, t)
	if err != nil {
		return 0, err
	}
	defer closeConn(ctx, conn)
	return fence, conn.QueryRow(ctx, selectFence).Scan(&fence)
}
