package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// What makes a tenant active holds this lock with others who do so, from before it
// reads the fleet's versions until it has committed. Who ends a rollout holds it
// alone, from before it looks for tenants below the target until it has committed.
// So either the tenant is seen there, or the rollout's end is seen here. It is taken
// behind the rollout's row, and nobody who waits for it holds what its holders want.
const (
	shareActivation = `select pg_advisory_xact_lock_shared(hashtextextended('freehold activation', 0))`
	holdActivation  = `select pg_advisory_xact_lock(hashtextextended('freehold activation', 0))`
)

// Behind is returned for a tenant that would become active with a database below the
// fleet's versions: it is brought up first. It is an ErrConflict.
type Behind struct {
	Has, Fleet Versions
}

func (e *Behind) Error() string {
	return fmt.Sprintf("its database is at schema %s, the fleet at %s", e.Has, e.Fleet)
}

// Is reports whether target is ErrConflict.
func (e *Behind) Is(target error) bool { return target == ErrConflict }

// String is for people: the product's version stands behind Freehold's, when there
// is one.
func (v Versions) String() string {
	if v.Product == 0 {
		return fmt.Sprint(v.Freehold)
	}
	return fmt.Sprintf("%d, product %d", v.Freehold, v.Product)
}

// Below reports whether it is lower in one of the streams at least.
func (v Versions) Below(other Versions) bool {
	return v.Freehold < other.Freehold || v.Product < other.Product
}

const selectVersions = `select t.schema_version, t.product_version from tenants t where t.id = $1`

// mayServe refuses, with *Behind, to make a tenant active whose database is below
// the fleet's versions, and keeps rollouts from ending until the transaction has.
func mayServe(ctx context.Context, tx pgx.Tx, id TenantID) error {
	var e Behind
	var batch pgx.Batch
	queueFloors(&batch, &e.Fleet)
	batch.Queue(selectVersions, id).QueryRow(func(row pgx.Row) error {
		return row.Scan(&e.Has.Freehold, &e.Has.Product)
	})
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	if e.Has.Below(e.Fleet) {
		return &e
	}
	return nil
}

// queueFloors reads the fleet's versions for who makes a tenant active at them, or
// decides whether to.
func queueFloors(batch *pgx.Batch, floors *Versions) {
	batch.Queue(shareActivation)
	batch.Queue(selectFloors).QueryRow(func(row pgx.Row) error {
		return row.Scan(&floors.Freehold, &floors.Product)
	})
}
