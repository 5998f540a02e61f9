package router

import (
	"context"
	"errors"
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
// borrowed. A pool makes its leases once; they go round.
type lease struct {
	pool  *pool
	conn  *pgxpool.Conn
	since atomic.Int64 // when conn was lent, in ns since 1970; 0 while it isn't
}

// Borrow lends a connection for as long as fn runs; db must not outlive fn.
// Nothing slow belongs inside fn, and no second borrow of the same tenant: it
// could wait for the first one. A panic in fn gives the connection back and goes on.
//
// Settle borrows from an open pool also while the tenant is suspended, because
// what was admitted is accounted for.
//
// Errors: ErrSuspended, ErrMoving, ErrUnknown, ErrUpgrading; ErrBusy when every
// connection was taken until ctx's deadline; ErrClosed; tenantdb.ErrUnavailable
// when the database couldn't be reached, or not before ctx's deadline;
// tenantdb.ErrForeign; the look-up's own (catalog.ErrUnavailable); ctx's own when
// the caller went away; or fn's own, unchanged.
func (t *Tenant) Borrow(ctx context.Context, class tenantdb.Class, fn func(ctx context.Context, db *tenantdb.DB) error) error {
	l, err := t.router.borrow(ctx, t.id, t.epoch, class)
	if err != nil {
		return err
	}
	defer t.router.giveBack(l)
	return fn(ctx, tenantdb.On(l.conn, t.epoch))
}

// borrow returns a lease with its connection. giveBack it.
func (r *Router) borrow(ctx context.Context, id catalog.TenantID, epoch int64, class tenantdb.Class) (*lease, error) {
	// Once, and again for each time that the tenant's pool is renewed meanwhile.
	for ctx.Err() == nil {
		p, err := r.pin(ctx, id, epoch, class)
		if err != nil {
			return nil, err
		}
		l, err := p.lend(ctx)
		if err == nil {
			return l, nil
		}
		if errors.Is(err, tenantdb.ErrForeign) {
			r.distrust(p)
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
	l.since.Store(0)
	l.conn.Release()
	l.conn = nil
	p := l.pool
	p.free <- l
	r.unpin(p)
}

// lend waits for a free lease and then for its connection. errGone when the pool
// went out of use meanwhile.
//
// The wait is here and not in pgxpool, whose waiters sleep on when their pool is
// closed; and with the lease in hand, a connection that doesn't come is the
// database's fault and not the crowd's.
func (p *pool) lend(ctx context.Context) (*lease, error) {
	var l *lease
	select {
	case l = <-p.free:
	default:
		select {
		case l = <-p.free:
		case <-p.gone:
			return nil, errGone
		case <-ctx.Done():
			return nil, waitError(ctx, ErrBusy)
		}
	}
	conn, err := p.pg.Acquire(ctx)
	if err == nil && !p.isGone() {
		l.conn = conn
		l.since.Store(time.Now().UnixNano())
		return l, nil
	}
	if err == nil {
		conn.Release()
	}
	p.free <- l
	switch {
	case p.isGone():
		return nil, errGone
	case ctx.Err() != nil:
		return nil, waitError(ctx, tenantdb.ErrUnavailable)
	default:
		return nil, connectError(err)
	}
}
