package router

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"freehold/catalog"
	"freehold/tenantdb"
)

// Tenant is the handle that everything below borrows through.
type Tenant struct {
	router *Router
	id     catalog.TenantID
	epoch  int64
}

// lease is the right to one connection of a pool, and the connection while it is
// borrowed. A pool's leases go round.
type lease struct {
	pool   *pool
	class  tenantdb.Class
	conn   *pgxpool.Conn
	since  atomic.Int64 // when conn was lent, in ns since 1970; 0 while it isn't
	warned atomic.Bool
	by     atomic.Uintptr // the code that it was lent for
}

// Borrow lends a connection for as long as fn runs; db must not outlive fn.
// Nothing slow belongs inside fn, and no second borrow of the same tenant: it
// could wait for the first one. A panic in fn gives the connection back and goes on.
//
// Settle goes first and is never refused for want of a connection; it borrows
// from an open pool also while the tenant is suspended, because what was admitted
// is accounted for. Background waits for everybody else. While the tenant moves,
// all of them wait.
//
// Errors: ErrSuspended, ErrMoving, ErrUnknown, ErrUpgrading; ErrBusy, as a *Busy,
// when every connection was taken for Config.QueueWait or until ctx's deadline,
// or would be; ErrClosed; tenantdb.ErrUnavailable when the database couldn't be
// reached, or not before ctx's deadline; tenantdb.ErrForeign; the look-up's own
// (catalog.ErrUnavailable); ctx's own when the caller went away; or fn's own,
// unchanged.
func (t *Tenant) Borrow(ctx context.Context, class tenantdb.Class, fn func(ctx context.Context, db *tenantdb.DB) error) error {
	l, err := t.router.borrow(ctx, t.id, t.epoch, class)
	if err != nil {
		return err
	}
	// The code's place tells who borrows, and costs less than a walk of the stack.
	l.by.Store(reflect.ValueOf(fn).Pointer())
	defer t.router.giveBack(l)
	return fn(ctx, tenantdb.On(l.conn, t.epoch))
}

// borrow returns a lease with its connection. giveBack it.
func (r *Router) borrow(ctx context.Context, id catalog.TenantID, epoch int64, class tenantdb.Class) (*lease, error) {
	// Once, and again for each time that the tenant's pool is renewed meanwhile.
	for ctx.Err() == nil {
		p, l, err := r.pin(ctx, id, epoch, class)
		if err != nil {
			return nil, err
		}
		if err = r.lend(ctx, p, &l, class); err == nil {
			return l, nil
		}
		r.unpin(p)
		if !errors.Is(err, errGone) {
			return nil, err
		}
	}
	return nil, waitError(ctx, ErrBusy)
}

// giveBack ends a borrow. pgxpool destroys the connection when it is broken or
// still inside a transaction.
func (r *Router) giveBack(l *lease) {
	p := l.pool
	now := time.Now()
	took := time.Duration(now.UnixNano() - l.since.Swap(0))
	var broken *ticket
	if pg := l.conn.Conn().PgConn(); pg.IsClosed() || pg.IsBusy() || pg.TxStatus() != 'I' {
		broken = ticketOf(l.conn)
	}
	l.conn.Release()
	l.conn = nil
	if l.warned.Swap(false) {
		r.cfg.Logger.Info("long lease ended", "tenant", p.id.String(), "dur_ms", took.Milliseconds())
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if broken != nil {
		r.doom(broken)
	}
	p.rec.served(p.srv, took, r.weight(p))
	p.srv.leases.add(took)
	r.put(l, now)
	r.unpinned(p)
}

// retryAfter is how soon a borrower tries again whose idle connection turned out
// to be dead; pgxpool doesn't tell when it has closed it.
const retryAfter = time.Millisecond

// lend waits for a lease, unless *l is one, and for its connection. errGone when
// the pool went out of use meanwhile. The caller has the pool pinned.
//
// The wait is here and not in pgxpool, whose waiters sleep on when their pool is
// closed; and with the lease in hand there is a connection.
func (r *Router) lend(ctx context.Context, p *pool, l **lease, class tenantdb.Class) error {
	for {
		if *l == nil {
			got, err := r.queue(ctx, p, class)
			if err != nil {
				return err
			}
			*l = got
		}
		conn, err := p.pg.Acquire(ctx)
		if err == nil && !p.isGone() {
			(*l).conn = conn
			(*l).since.Store(time.Now().UnixNano())
			return nil
		}
		if err == nil {
			conn.Release()
		}
		r.mu.Lock()
		r.put(*l, time.Now())
		r.mu.Unlock()
		*l = nil
		switch {
		case p.isGone():
			return errGone
		case ctx.Err() != nil:
			return waitError(ctx, tenantdb.ErrUnavailable)
		case !errors.Is(err, errNoTicket):
			return connectError(err)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return waitError(ctx, tenantdb.ErrUnavailable)
		}
	}
}

// queue returns a lease, at once or after a wait in line.
func (r *Router) queue(ctx context.Context, p *pool, class tenantdb.Class) (*lease, error) {
	r.mu.Lock()
	if p.isGone() {
		r.mu.Unlock()
		return nil, errGone
	}
	if l := r.grab(p, class); l != nil {
		r.mu.Unlock()
		return l, nil
	}
	w, err := r.join(ctx, p, class)
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return r.await(ctx, p, w)
}
