package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

const (
	// spoolPrefix is where settlements wait, under the tenant's prefix; the
	// prediction's id follows.
	spoolPrefix = "spool/"
	// maxSettlement bounds one, in bytes: far more than any answer.
	maxSettlement = 64 << 20
	// replayAtOnce is how many are settled in one round trip.
	replayAtOnce = 20
)

// spoolAAD binds a settlement to its tenant and its prediction.
func spoolAAD(id catalog.TenantID, prediction string) string {
	return "spool " + id.String() + " " + prediction
}

// Spool keeps a settlement that the tenant's database could not take: sealed, under
// the tenant's prefix, until a worker's visit settles it. Twice is once. ErrStore.
// catalog.ErrNotFound for a tenant that is deleted: there is nothing left to settle.
func (f *Fleet) Spool(ctx context.Context, id catalog.TenantID, s tenantdb.Settlement) error {
	if f.blob == nil {
		return fmt.Errorf("spool settlement: %w: none is configured", ErrStore)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return errors.New("spool settlement: its JSON can't be made") // the error may quote content
	}
	var sealed bytes.Buffer
	stream, err := f.cat.SealStream(&sealed, spoolAAD(id, s.ID.String()))
	if err == nil {
		_, err = stream.Write(text)
	}
	if err == nil {
		err = stream.Close()
	}
	if err != nil {
		return fmt.Errorf("spool settlement: %w", err)
	}
	objects, key := f.blob.Tenant(id), spoolPrefix+s.ID.String()
	if err := objects.Put(ctx, key, &sealed); err != nil {
		return fmt.Errorf("spool settlement: %w", storeError(ctx, err))
	}
	// Its prefix may have been emptied for good just before. When the catalog can't be
	// asked either, the object is found by the next visit, or the reconciler.
	t, err := f.cat.Tenant(ctx, id)
	switch {
	case err == nil && t.State == catalog.Deleted:
		if err := objects.Delete(ctx, key); err != nil {
			return fmt.Errorf("spool settlement: %w", storeError(ctx, err))
		}
		return fmt.Errorf("spool settlement: %w", catalog.ErrNotFound)
	case err == nil:
		err = f.cat.MarkDue(ctx, id, 0)
	}
	if err != nil {
		f.log.WarnContext(ctx, "settlement spooled, and nobody is sent for it yet", "tenant", id.String(), "prediction", s.ID, "reason", reason(ctx, err))
	}
	return nil
}

// replay settles what the tenant's nodes have spooled, and removes it. left counts
// what couldn't be: each stays where it is, and the error names the first of them.
// With ErrStore nobody knows what there is, and left is 1 at least.
func (f *Fleet) replay(ctx context.Context, db *tenantdb.DB, id catalog.TenantID) (left int, err error) {
	if f.blob == nil {
		return 1, fmt.Errorf("%w: none is configured", ErrStore)
	}
	objects := f.blob.Tenant(id)
	var keys []string
	err = objects.List(ctx, spoolPrefix, func(o blob.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil {
		return 1, storeError(ctx, err)
	}
	var first error
	fail := func(key string, err error) {
		if left++; first == nil {
			first = fmt.Errorf("%s: %w", key, err)
		}
	}
	for len(keys) > 0 {
		some := keys[:min(replayAtOnce, len(keys))]
		keys = keys[len(some):]
		if first != nil && ctx.Err() != nil {
			left += len(some)
			continue
		}
		f.replaySome(ctx, db, id, some, fail)
	}
	if first != nil {
		return left, fmt.Errorf("%d left, the first is %w", left, first)
	}
	return 0, nil
}

func (f *Fleet) replaySome(ctx context.Context, db *tenantdb.DB, id catalog.TenantID, keys []string, fail func(string, error)) {
	var list []tenantdb.Settlement
	var opened []string
	for _, key := range keys {
		s, err := f.unspool(ctx, id, key)
		switch {
		case errors.Is(err, blob.ErrNotFound): // another one was quicker
		case err != nil:
			fail(key, err)
		default:
			list, opened = append(list, s), append(opened, key)
		}
	}
	if len(list) == 0 {
		return
	}
	// One that can't be stored must not hold the others up.
	_, err := db.SettleAll(ctx, list)
	for i, key := range opened {
		one := err
		if errors.Is(err, tenantdb.ErrInvalid) && len(list) > 1 {
			_, one = db.SettleAll(ctx, list[i:i+1])
		}
		if one == nil {
			// Settled by this or before: either way it is. Left here, it is once more.
			one = storeError(ctx, f.blob.Tenant(id).Delete(ctx, key))
		}
		if one != nil {
			fail(key, one)
		}
	}
}

var errSpool = errors.New("not a settlement as it was sealed")

// unspool reads a settlement. Its errors hold nothing of it.
func (f *Fleet) unspool(ctx context.Context, id catalog.TenantID, key string) (s tenantdb.Settlement, err error) {
	name := strings.TrimPrefix(key, spoolPrefix)
	prediction, err := uuid.Parse(name)
	if err != nil || prediction.String() != name {
		return s, errSpool
	}
	body, _, err := f.blob.Tenant(id).Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return s, err
	}
	if err != nil {
		return s, storeError(ctx, err)
	}
	defer body.Close()
	var text []byte
	stream, err := f.cat.OpenStream(body, spoolAAD(id, name))
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(stream, maxSettlement))
	}
	if errors.Is(err, catalog.ErrSealBroken) {
		return s, catalog.ErrSealBroken
	}
	if err != nil {
		return s, storeError(ctx, err)
	}
	if json.Unmarshal(text, &s) != nil || s.ID != prediction {
		return s, errSpool
	}
	return s, nil
}

// sweep settles what processes left that are dead by now.
func (f *Fleet) sweep(ctx context.Context, db *tenantdb.DB) (n int, err error) {
	live, err := f.cat.LiveNodes(ctx, f.dead)
	if err != nil {
		return 0, err
	}
	return db.Sweep(ctx, live, f.dead)
}

// catchUp settles what a tenant's nodes have left, before the tenant is served
// again or its last bill is made: what was spooled first, and only when none of that
// is left what dead processes left. ErrStore: nobody knows what was spooled; who has
// no store leaves all of it to the next visit. A settlement that can't be replayed is
// logged, and holds nobody up.
func (f *Fleet) catchUp(ctx context.Context, t catalog.Tenant) error {
	if f.blob == nil {
		return nil
	}
	v, err := f.enter(ctx, t)
	if err != nil {
		return err
	}
	defer closeConn(ctx, v.conn)
	if !v.billed {
		return nil // of an older release: nothing was spooled, nothing reserved
	}
	left, err := f.replay(ctx, v.db, t.ID)
	switch {
	case errors.Is(err, ErrStore), errors.Is(err, tenantdb.ErrUnavailable), err != nil && ctx.Err() != nil:
		return fmt.Errorf("replay what was spooled: %w", err)
	case err != nil:
		f.log.ErrorContext(ctx, "settlements left in the object store", "tenant", t.ID.String(), "left", left, "reason", reason(ctx, err))
		return nil
	}
	if _, err := f.sweep(ctx, v.db); err != nil {
		return fmt.Errorf("settle what dead nodes left: %w", err)
	}
	return nil
}
