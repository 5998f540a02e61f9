package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// hold pauses the tenant, or goes on with the pause of a worker that died in it. Where
// its database is lost nobody can be fenced there: that nodes have let go has to do.
func (r *restorer) hold(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.dead+drainTime)
	defer cancel()
	t, err := r.cat.Tenant(ctx, r.tenant.ID)
	if err != nil {
		return err
	}
	if t.State != catalog.Moving && !r.args.Lost {
		_, err := r.Pause(ctx, t.ID)
		return err
	}
	epoch := t.Epoch
	if t.State != catalog.Moving {
		if epoch, err = r.cat.SetState(ctx, t.ID, catalog.Moving, catalog.Active, catalog.Suspended); err != nil {
			return err
		}
	}
	if !r.args.Lost {
		if err := r.fence(ctx, t.ID); err != nil {
			return err
		}
	}
	return r.cat.AwaitDrained(ctx, t.ID, epoch, r.dead)
}

// readOld connects to the database that the tenant has, for reading, and then closes
// it to all others, who end: nothing is written there any more. The caller closes the
// connection.
func (r *restorer) readOld(ctx context.Context) (*pgx.Conn, error) {
	if err := letIn(ctx, r.conn, r.tenant.Database, true); err != nil {
		return nil, err
	}
	cfg, err := r.ownerConfig(ctx, r.tenant.Server, r.tenant.Database)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the tenant's database: %w", err)
	}
	err = letIn(ctx, r.conn, r.tenant.Database, false)
	if err == nil {
		err = shutOut(ctx, r.conn, r.tenant.Role)
	}
	if err == nil {
		err = endIn(ctx, r.conn, r.tenant.Database, spared{pids: []uint32{conn.PgConn().PID()}})
	}
	if err != nil {
		closeConn(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// noteHold notes when the pause began, unless it is one that a worker died in.
func (r *restorer) noteHold(ctx context.Context) error {
	if r.tenant.State == catalog.Moving {
		return nil
	}
	return r.cat.NoteOperation(ctx, r.op, noteBegan, time.Now())
}
