package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// fenceTimeout bounds how long a change waits for the tenant's database: a fleet's
// patience.
const fenceTimeout = 5 * time.Second

const raiseFence = `update freehold.tenant_identity set fence = greatest(fence, $1)`

// fence tells the tenant's database the tenant's epoch as the catalog has it, so
// that whoever decided on an older one is refused there. It tries for the fleet's patience;
// ErrUnfenced after that.
func (f *Fleet) fence(ctx context.Context, id catalog.TenantID) error {
	// The catalog is changed already: that the caller went away must not leave the
	// change half done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.patience)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := f.tryFence(ctx, id)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			// The bound is ours, so what it cut off is no deadline of the caller's.
			return fmt.Errorf("%w: %w", ErrUnfenced, tenantdb.ErrUnavailable)
		}
		if !errors.Is(err, tenantdb.ErrUnavailable) || pause(ctx, wait) != nil {
			return fmt.Errorf("%w: %w", ErrUnfenced, err)
		}
	}
}

func (f *Fleet) tryFence(ctx context.Context, id catalog.TenantID) error {
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return err
	}
	if t.State == catalog.Provisioning {
		return nil // nothing is served before it is active, and that is a later epoch
	}
	conn, err := f.owner(ctx, t)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	tag, err := conn.Exec(ctx, raiseFence, t.Epoch)
	if err != nil {
		return translate(ctx, err)
	}
	if tag.RowsAffected() != 1 {
		return errors.New("the database has no identity row")
	}
	return nil
}

// PatchConfig writes the catalog, then the fence of the tenant's database, and only
// then returns (G5). With ErrUnfenced the catalog's change stands, and the
// configuration returned is the new one.
func (f *Fleet) PatchConfig(ctx context.Context, id catalog.TenantID, p catalog.ConfigPatch) (catalog.TenantConfig, error) {
	cfg, _, err := f.cat.PatchConfig(ctx, id, p)
	if err != nil {
		return catalog.TenantConfig{}, err
	}
	if err := f.fence(ctx, id); err != nil {
		return cfg, fmt.Errorf("patch configuration: %w", err)
	}
	return cfg, nil
}

// RevokeKey revokes in the catalog, then raises the fence (G5). Twice is no error:
// after ErrUnfenced it finishes the first.
func (f *Fleet) RevokeKey(ctx context.Context, id catalog.TenantID, keyID string) error {
	if _, err := f.cat.RevokeKey(ctx, id, keyID); err != nil {
		return err
	}
	if err := f.fence(ctx, id); err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	return nil
}

// PatchKey changes a key's name, models and limits in the catalog, then raises the
// fence (G5). With ErrUnfenced the catalog's change stands, and the key returned is
// the new one.
func (f *Fleet) PatchKey(ctx context.Context, id catalog.TenantID, keyID string, p catalog.KeyPatch) (catalog.Key, error) {
	key, _, err := f.cat.PatchKey(ctx, id, keyID, p)
	if err != nil {
		return catalog.Key{}, err
	}
	if err := f.fence(ctx, id); err != nil {
		return key, fmt.Errorf("patch key: %w", err)
	}
	return key, nil
}

func (f *Fleet) transition(ctx context.Context, verb string, id catalog.TenantID, to, from catalog.State) error {
	_, err := f.cat.SetState(ctx, id, to, from)
	if errors.Is(err, catalog.ErrConflict) {
		if t, terr := f.cat.Tenant(ctx, id); terr == nil && t.State == to {
			err = nil // an earlier call got this far
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if err := f.fence(ctx, id); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	f.log.InfoContext(ctx, "tenant changed state", "tenant", id.String(), "state", string(to))
	return nil
}

// pause waits for d, or until ctx is over.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
