package fleet

import (
	"context"
	"errors"
	"fmt"

	"freehold/catalog"
)

// withRestorer runs fn for a restore's operation outside of its steps, under the
// tenant's lock, also for a caller who has gone.
func (f *Fleet) withRestorer(ctx context.Context, o catalog.Operation, fn func(context.Context, *restorer) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	a := &act{Fleet: f, op: o}
	defer func() {
		if a.conn != nil {
			closeConn(ctx, a.conn)
		}
	}()
	var err error
	if a.tenant, err = f.cat.Tenant(ctx, o.TenantID); err != nil {
		return err
	}
	r, err := a.restorer()
	if err != nil {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	return fn(ctx, r)
}

// undoRestore takes back what a restore that ends has made: the tenant is served as it
// was, and the database that was built is gone. It can be done again.
// catalog.ErrConflict once the new database bears the tenant's name.
func (f *Fleet) undoRestore(ctx context.Context, o catalog.Operation) error {
	return f.withRestorer(ctx, o, func(ctx context.Context, r *restorer) error {
		switched, err := r.switched(ctx)
		if err != nil {
			return err
		}
		if switched {
			return fmt.Errorf("the restored database is the tenant's already: %w", catalog.ErrConflict)
		}
		// Who waits for the tenant comes first.
		if err := r.goBack(ctx); err != nil {
			return err
		}
		r.at("undo:stays")
		if err := r.dropFresh(ctx); err != nil {
			return err
		}
		if err := r.forgetKept(ctx); err != nil {
			return err
		}
		return f.cat.RewindSteps(ctx, o)
	})
}

// stay has the tenant served as it was, unless the databases have changed their names
// and nobody heard of it: from there it goes forward only.
func (r *restorer) stay(ctx context.Context) error {
	if r.conn != nil { // it may be lost, and has the lock
		closeConn(ctx, r.conn)
		r.conn = nil
	}
	return r.withRestorer(ctx, r.op, func(ctx context.Context, r *restorer) error {
		switched, err := r.switched(ctx)
		if err != nil || switched {
			return err
		}
		return r.goBack(ctx)
	})
}

// goBack ends the pause, if there is one.
func (r *restorer) goBack(ctx context.Context) error {
	t, err := r.cat.Tenant(ctx, r.tenant.ID)
	if err != nil || t.State != catalog.Moving {
		return err
	}
	before, err := r.cat.StateBeforeMove(ctx, t.ID)
	if err != nil {
		return err
	}
	there, err := databaseThere(ctx, r.conn, t.Database)
	if err != nil {
		return err
	}
	if there {
		if err := openDatabase(ctx, r.conn, t.Database, t.Role, before == catalog.Active); err != nil {
			return err
		}
	}
	err = r.endPause(ctx)
	if r.args.Lost && errors.Is(err, ErrUnfenced) {
		err = nil // as before
	}
	return err
}

// dropFresh drops what was built, and closes a kept database that was to come back.
func (r *restorer) dropFresh(ctx context.Context) error {
	name := r.args.fresh(r.tenant.ID)
	ours, err := r.mark(ctx)
	if err != nil {
		return err
	}
	mark, there, err := markOf(ctx, r.conn, thingDatabase, name)
	switch {
	case err != nil || !there:
		return err
	case r.args.Revert != "":
		if err := letIn(ctx, r.conn, name, false); err != nil {
			return err
		}
		return endIn(ctx, r.conn, name, spared{})
	case mark != ours && mark != "": // half of one bears none yet
		return fmt.Errorf("database %s doesn't bear this catalog's mark: %w", name, catalog.ErrConflict)
	}
	return translate(ctx, dropForced(ctx, r.conn, name))
}

// dropBuilt drops, for a deletion, what a restore that was to make the tenant has built.
func (a *act) dropBuilt(ctx context.Context) error {
	if err := a.lock(ctx); err != nil {
		return err
	}
	name := freshName(a.tenant.ID)
	ours, err := a.mark(ctx)
	if err != nil {
		return err
	}
	mark, there, err := markOf(ctx, a.conn, thingDatabase, name)
	if err != nil || !there {
		return err
	}
	if mark != ours && mark != "" { // half of one bears none yet
		return fmt.Errorf("database %s doesn't bear this catalog's mark: %w", name, catalog.ErrConflict)
	}
	return translate(ctx, dropForced(ctx, a.conn, name))
}

// forgetKept forgets the database that was about to be kept.
func (r *restorer) forgetKept(ctx context.Context) error {
	list, err := r.cat.KeptDatabases(ctx, catalog.KeptFilter{Tenant: r.tenant.ID})
	if err != nil {
		return err
	}
	for _, k := range list {
		if k.Operation != r.op.ID || k.Database != r.kept() {
			continue
		}
		if err := r.cat.ForgetKept(ctx, k.ID); err != nil {
			return err
		}
	}
	return nil
}

// mayRestoreOn has a restore go forward whose databases have changed their names: it
// can't be cancelled any more.
func (a *act) mayRestoreOn(ctx context.Context) error {
	built := false
	for _, s := range a.op.Steps {
		built = built || s.Name == "build" && s.State == "done"
	}
	if !built {
		return nil
	}
	r, err := a.restorer()
	if err != nil {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	switched, err := r.switched(ctx)
	if err != nil || !switched {
		return err
	}
	return a.cat.IgnoreCancel(ctx, a.op)
}
