package fleet

import (
	"context"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet/replica"
)

// undoTime bounds the taking back of what a move made.
const undoTime = 2 * time.Minute

// undoMove takes back what a move that ends has made: the tenant is served where it
// was, the other server has nothing of it, and nothing follows its database any more.
// It can be done again. catalog.ErrConflict once the tenant lives on the other server.
func (f *Fleet) undoMove(ctx context.Context, o catalog.Operation) error {
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
	m, err := a.mover(ctx)
	if err != nil {
		return err
	}
	if a.tenant.Server != m.args.From {
		return fmt.Errorf("it lives on server %s: %w", a.tenant.Server, catalog.ErrConflict)
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	// Who waits for the tenant comes first.
	if err := m.stay(ctx); err != nil {
		return err
	}
	a.at("undo:stays")
	if err := m.dropNewHome(ctx); err != nil {
		return err
	}
	a.at("undo:dropped")
	if err := m.unpublish(ctx, a.conn, a.tenant.Database); err != nil {
		return err
	}
	if err := m.dropPublication(ctx); err != nil {
		return err
	}
	return f.cat.RewindSteps(ctx, o)
}

// mayMoveOn has a move whose tenant lives on the other server already go forward: it
// can't be cancelled any more.
func (a *act) mayMoveOn(ctx context.Context) error {
	m, err := a.mover(ctx)
	if err != nil || a.tenant.Server == m.args.From {
		return err
	}
	return a.cat.IgnoreCancel(ctx, a.op)
}

// dropPublication takes the publication from the tenant's database.
func (m *mover) dropPublication(ctx context.Context) error {
	if m.args.Way != ByReplication {
		return nil
	}
	owner, err := m.owner(ctx, m.tenant)
	if err != nil {
		return err
	}
	defer closeConn(ctx, owner)
	return translate(ctx, replica.Unpublish(ctx, owner, m.link))
}

// dropNewHome drops what was made on the other server.
func (m *mover) dropNewHome(ctx context.Context) error {
	conn, err := m.admin(ctx, m.args.To, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	ours, err := m.mark(ctx)
	if err != nil {
		return err
	}
	mark, there, err := markOf(ctx, conn, thingDatabase, m.tenant.Database)
	switch {
	case err != nil:
		return err
	case there && mark != ours && mark != "": // somebody else's, which the check refused
		return nil
	case there:
		if err := m.unsubscribe(ctx, conn); err != nil {
			return err
		}
		if err := dropForced(ctx, conn, m.tenant.Database); err != nil {
			return translate(ctx, err)
		}
	}
	if mark, there, err = markOf(ctx, conn, thingRole, m.tenant.Role); err != nil || !there || mark != ours {
		return err
	}
	err = m.dropRole(ctx, conn, m.tenant.ID)
	if state(err) == stateDependent { // it lived there once, and that is kept
		err = nil
	}
	return err
}
