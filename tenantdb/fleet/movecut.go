package fleet

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/fleet/replica"
)

// cutOver pauses the tenant, waits until the copy has all of it, compares, shuts the
// old database, switches the catalog and has the tenant served where it lives then.
// Whatever fails before the switch leaves it served where it was; a worker that dies
// in the pause leaves it to the next one to end that.
func cutOver(ctx context.Context, a *act) error {
	m, err := a.mover(ctx)
	if err != nil {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	if m.tenant.Server == m.args.From {
		if err := m.leave(ctx); err != nil {
			return err
		}
	}
	return m.land(ctx)
}

// leave pauses the tenant and switches it over, within the time that a pause may take.
func (m *mover) leave(ctx context.Context) error {
	if m.tenant.State != catalog.Moving {
		if err := m.allNodesLive(ctx); err != nil {
			return err
		}
		if m.args.Way == ByReplication {
			if err := m.freshen(ctx); err != nil {
				return err
			}
		}
	}
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, m.args.MaxPause)
	defer cancel()
	err := m.underPause(bounded)
	if err == nil {
		// Nobody is served yet: this is what landing adds to.
		return m.cat.NoteOperation(ctx, m.op, noteBegan, began)
	}
	if now, terr := m.cat.Tenant(context.WithoutCancel(ctx), m.tenant.ID); terr == nil && now.Server != m.args.From {
		return err // it was switched, and nobody heard of it: forward only
	}
	if ctx.Err() == nil && bounded.Err() != nil {
		err = fmt.Errorf("%w: it took longer than %s: %w", ErrNeedsPause, m.args.MaxPause, err)
	}
	return errors.Join(err, m.stay(ctx))
}

// underPause does all that nobody may be served meanwhile.
func (m *mover) underPause(ctx context.Context) error {
	var e ends
	var err error
	defer func() { e.close(ctx) }()
	if m.args.Way == ByReplication { // a copy makes the other end anew
		if e, err = m.open(ctx); err != nil {
			return err
		}
	}
	if err := m.pauseAgain(ctx); err != nil {
		return err
	}
	m.at("cutover:paused")
	if m.args.Way == ByCopy {
		if err := m.copyAll(ctx); err != nil {
			return err
		}
		if e, err = m.open(ctx); err != nil {
			return err
		}
	}
	if err := m.sameThere(ctx, e); err != nil {
		return err
	}
	m.at("cutover:same")
	if err := m.stillWanted(ctx); err != nil {
		return err
	}
	if _, err := m.cat.SwitchServer(ctx, m.tenant.ID, m.args.To); err != nil {
		return err
	}
	m.at("cutover:switched")
	return nil
}

// pauseAgain pauses the tenant, or goes on with the pause of a worker that died in it.
func (m *mover) pauseAgain(ctx context.Context) error {
	t, err := m.cat.Tenant(ctx, m.tenant.ID)
	if err != nil {
		return err
	}
	if t.State != catalog.Moving {
		_, err := m.Pause(ctx, t.ID)
		return err
	}
	if err := m.openOld(ctx, false); err != nil { // it may have been shut
		return err
	}
	if err := m.fence(ctx, t.ID); err != nil {
		return err
	}
	return m.cat.AwaitDrained(ctx, t.ID, t.Epoch, m.dead)
}

// sameThere lets nobody into the old database any more, waits until the other server
// has all that was ever committed in it, and compares. What is compared can't change
// any more: requests are behind the fence, and our own workers are out too.
func (m *mover) sameThere(ctx context.Context, e ends) error {
	m.at("cutover:shutting")
	if err := shutDatabase(ctx, m.conn, m.tenant.Database, m.tenant.Role, spared{[]uint32{e.source.PgConn().PID()}, m.link}); err != nil {
		return err
	}
	m.at("cutover:shut")
	if m.args.Way == ByReplication {
		return m.followUp(ctx, e.source, e.target)
	}
	if err := replica.Same(ctx, e.source, e.target); err != nil {
		// Somebody of ours was in it while it was copied.
		return fmt.Errorf("%w: %w", errChanged, translate(ctx, err))
	}
	_, err := replica.FlushLSN(ctx, e.target) // the copy didn't wait for the disk
	return translate(ctx, err)
}

// ends are connections to the tenant's database on both servers. They are opened
// before anybody is paused.
type ends struct{ source, target *pgx.Conn }

// open connects to both ends. The caller closes.
func (m *mover) open(ctx context.Context) (e ends, err error) {
	if m.tenant.State == catalog.Moving { // a pause before this one may have shut it
		if err := m.openOld(ctx, false); err != nil {
			return e, err
		}
	}
	e.source, e.target, err = m.both(ctx)
	return e, err
}

func (e ends) close(ctx context.Context) {
	for _, conn := range []*pgx.Conn{e.source, e.target} {
		if conn != nil {
			closeConn(ctx, conn)
		}
	}
}

// freshen compares what has changed since the tables were compared, so that little is
// left for the pause.
func (m *mover) freshen(ctx context.Context) error {
	source, target, err := m.both(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, source)
	defer closeConn(ctx, target)
	before, err := m.comparedServed(ctx, source)
	if err != nil {
		return err
	}
	return translate(ctx, replica.Freshen(ctx, source, target, before))
}

// comparedServed reads what was noted when the tables were compared while the tenant
// was served, and sees that it has the same tables still.
func (m *mover) comparedServed(ctx context.Context, source *pgx.Conn) (before replica.Compared, err error) {
	notes, err := m.cat.OperationNotes(ctx, m.op.ID)
	if err != nil {
		return before, err
	}
	var definitions string
	if json.Unmarshal(notes[noteCompared], &before) != nil || json.Unmarshal(notes[noteDefinitions], &definitions) != nil {
		return before, errors.New("what was noted of its tables can't be read")
	}
	now, _, err := Fingerprint(ctx, source)
	if err == nil && hex.EncodeToString(now) != definitions {
		err = fmt.Errorf("%w: definitions were changed while it was copied", errChanged)
	}
	return before, translate(ctx, err)
}

// followUp waits until the other server has every change, and compares what changed
// since it was compared last.
func (m *mover) followUp(ctx context.Context, source, target *pgx.Conn) error {
	before, err := m.comparedServed(ctx, source)
	if err != nil {
		return err
	}
	lsn, err := replica.FlushLSN(ctx, source)
	if err != nil {
		return translate(ctx, err)
	}
	if err := replica.CaughtUp(ctx, source, target, m.link, lsn); err != nil {
		return fmt.Errorf("wait for the last changes: %w", translate(ctx, err))
	}
	if err := replica.InPause(ctx, source, target, before); err != nil {
		return fmt.Errorf("compare: %w", translate(ctx, err))
	}
	if _, err := replica.Sequences(ctx, source, target); err != nil {
		return fmt.Errorf("set its sequences: %w", translate(ctx, err))
	}
	if err := replica.Disable(ctx, target, m.link); err != nil {
		return fmt.Errorf("end the replication: %w", translate(ctx, err))
	}
	return nil
}

// copyAll copies the database while nobody is served.
func (m *mover) copyAll(ctx context.Context) error {
	conn, err := m.admin(ctx, m.args.To, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if err := m.newHome(ctx, conn, false); err != nil {
		return err
	}
	if err := m.pipe(ctx); err != nil {
		return err
	}
	m.at("cutover:copied")
	return nil
}
