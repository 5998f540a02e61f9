package fleet

import (
	"context"
	"fmt"

	"freehold/catalog"
)

// ConfirmTenant has the database dropped that a tenant had before its restore: from
// then on there is no way back. Where it can't be dropped at once, DropKept does.
// Twice is once. catalog.ErrConflict when no restore waits for it, *catalog.Busy while
// one is at work, catalog.ErrNotFound.
func (f *Fleet) ConfirmTenant(ctx context.Context, id catalog.TenantID, actor string) error {
	if err := f.confirm(ctx, id, actor); err != nil {
		return fmt.Errorf("confirm restore: %w", err)
	}
	return nil
}

func (f *Fleet) confirm(ctx context.Context, id catalog.TenantID, actor string) error {
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return err
	}
	busy, err := f.cat.BusyWith(ctx, id, catalog.KindRestore)
	if err != nil {
		return err
	}
	if busy {
		return fmt.Errorf("it is being restored: %w", catalog.ErrConflict)
	}
	n, err := f.cat.ConfirmKept(ctx, id, catalog.KeptRestored)
	if err != nil {
		return err
	}
	list, err := f.cat.KeptDatabases(ctx, catalog.KeptFilter{Tenant: id, Due: true})
	if err != nil {
		return err
	}
	if n == 0 && len(list) == 0 {
		return fmt.Errorf("no restore of %s waits to be confirmed: %w", t.Slug, catalog.ErrConflict)
	}
	f.log.InfoContext(ctx, "restore confirmed", "tenant", id.String(), "actor", actor)
	for _, k := range list {
		if err := f.dropKept(ctx, k); err != nil { // it is due: somebody else will
			f.log.WarnContext(ctx, "kept database not dropped yet", "server", k.Server, "database", k.Database, "reason", reason(ctx, err))
		}
	}
	return nil
}

// BeginRevert registers that a restore is taken back: the database that the tenant had
// before it comes back, with what was used, owed and done since. What the restore had
// made is kept for DefaultKeep. catalog.ErrConflict when no restore waits to be
// confirmed, and in a state other than active and suspended; *catalog.Busy,
// catalog.ErrNotFound.
func (f *Fleet) BeginRevert(ctx context.Context, id catalog.TenantID, actor string) (catalog.Operation, error) {
	op, err := f.beginRevert(ctx, id, actor)
	if err != nil {
		return op, fmt.Errorf("revert restore: %w", err)
	}
	f.log.InfoContext(ctx, "reverting of a restore begun", "tenant", id.String(), "operation", op.ID)
	return op, nil
}

func (f *Fleet) beginRevert(ctx context.Context, id catalog.TenantID, actor string) (op catalog.Operation, err error) {
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return op, err
	}
	if t.State != catalog.Active && t.State != catalog.Suspended {
		return op, fmt.Errorf("it is %s: %w", t.State, catalog.ErrConflict)
	}
	list, err := f.unconfirmed(ctx, id)
	if err != nil {
		return op, err
	}
	if len(list) == 0 {
		return op, fmt.Errorf("no restore of %s waits to be confirmed: %w", t.Slug, catalog.ErrConflict)
	}
	k := list[len(list)-1]
	if k.Server != t.Server {
		return op, fmt.Errorf("what it had before is on server %s, and it lives on %s by now: %w", k.Server, t.Server, catalog.ErrConflict)
	}
	return f.cat.BeginOperation(ctx, catalog.OperationSpec{
		Kind: catalog.KindRestore, Tenant: id, Actor: actor, Steps: stepNames(restoring),
		Args: restoreArgs{Revert: k.Database, KeptID: k.ID, MadeAt: k.CreatedAt},
	})
}

// RevertRestore takes a restore back, here and now. When this process dies, a worker
// goes on with it. Errors: BeginRevert's, *Unfinished.
func (f *Fleet) RevertRestore(ctx context.Context, id catalog.TenantID, actor string) (catalog.Operation, error) {
	op, err := f.BeginRevert(ctx, id, actor)
	if err != nil {
		return op, err
	}
	if err := f.seeThrough(ctx, op.ID); err != nil {
		return op, fmt.Errorf("revert restore: %w", f.unfinished(ctx, op, err))
	}
	return f.cat.Operation(ctx, op.ID)
}
