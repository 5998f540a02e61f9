package fleet

import (
	"context"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet/replica"
)

// landTime bounds what a pause's end takes, be it where the tenant was or elsewhere.
const landTime = time.Minute

// openOld lets people into the old database again. What shuts it and opens it is the
// connection that has the tenant's lock: a statement that its worker didn't live to
// see the end of, or gave up, ends before anybody else's begins.
func (m *mover) openOld(ctx context.Context, login bool) error {
	return openDatabase(ctx, m.conn, m.tenant.Database, m.tenant.Role, login)
}

// stay has the tenant served where it was. It is done also when the caller's time is
// over: nobody is served before.
func (m *mover) stay(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), landTime)
	defer cancel()
	if err := m.lock(ctx); err != nil { // it ended with its connection
		return err
	}
	t, err := m.cat.Tenant(ctx, m.tenant.ID)
	if err != nil || t.State != catalog.Moving || t.Server != m.args.From {
		return err
	}
	before, err := m.cat.StateBeforeMove(ctx, t.ID)
	if err != nil {
		return err
	}
	if err := m.openOld(ctx, before == catalog.Active); err != nil {
		return fmt.Errorf("open its database again: %w", err)
	}
	if m.args.Way == ByReplication { // it goes on where it was
		if target, terr := m.on(ctx, m.args.To); terr == nil {
			terr = replica.Enable(ctx, target, m.link)
			closeConn(ctx, target)
			err = terr
		} else {
			err = terr
		}
		if err != nil { // the next try finds out
			m.log.WarnContext(ctx, "replication not resumed", "tenant", t.ID.String(), "operation", m.op.ID, "reason", reason(ctx, err))
		}
	}
	return m.endPause(ctx)
}

// land has the tenant served on its new server.
func (m *mover) land(ctx context.Context) error {
	if err := m.cat.IgnoreCancel(ctx, m.op); err != nil {
		return err
	}
	t, err := m.cat.Tenant(ctx, m.tenant.ID)
	if err != nil {
		return err
	}
	if t.State == catalog.Moving {
		before, err := m.cat.StateBeforeMove(ctx, t.ID)
		if err != nil {
			return err
		}
		if before == catalog.Suspended { // as Suspend leaves one
			conn, err := m.admin(ctx, m.args.To, maintenance)
			if err != nil {
				return err
			}
			err = allowLogin(ctx, conn, t.Role, false)
			closeConn(ctx, conn)
			if err != nil {
				return err
			}
		}
	}
	if err := m.endPause(ctx); err != nil {
		return err
	}
	m.tellPause(ctx)
	m.log.InfoContext(ctx, "tenant moved", "tenant", t.ID.String(), "operation", m.op.ID, "from", m.args.From, "to", m.args.To)
	return nil
}

// retireOld keeps the database that the tenant has left, for a while, and takes from
// both servers what only the move needed.
func retireOld(ctx context.Context, a *act) error {
	m, err := a.mover(ctx)
	if err != nil {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	old, err := m.admin(ctx, m.args.From, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, old)
	now, err := m.admin(ctx, m.args.To, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, now)
	if err := m.unsubscribe(ctx, now); err != nil {
		return err
	}
	m.at("retire:unsubscribed")
	name := m.tenant.Database
	if there, err := databaseThere(ctx, old, name); err != nil {
		return err
	} else if !there {
		name = keptName(m.tenant.ID, m.op.ID)
	}
	if err := m.unpublish(ctx, old, name); err != nil {
		return err
	}
	m.at("retire:unpublished")
	until := time.Now().Add(m.args.Grace)
	if _, err := m.retire(ctx, old, m.tenant, catalog.KeptDatabase{
		Server: m.args.From, Why: catalog.KeptMoved, Operation: m.op.ID, DropAt: &until,
	}); err != nil {
		return err
	}
	if m.args.Way == ByCopy {
		if err := m.analyze(ctx, m.args.To, m.tenant.Database); err != nil {
			return err
		}
	}
	return m.cat.NoteOperation(ctx, m.op, noteKept, until.UTC().Truncate(time.Second))
}
