package inference

import (
	"context"
	"errors"
	"time"

	"freehold/tenantdb"
)

// How long a settlement tries the database before it is spooled: it outlives its
// request.
const (
	settleTimeout = 30 * time.Second
	settleTries   = 6
	spoolTimeout  = 5 * time.Second
)

// settle writes down how the prediction ended, once. What the database can't take
// now is spooled, and settled by a worker later. settled is zero when it isn't yet.
func (r *record) settle(ctx context.Context, e ending) (settled time.Time) {
	_, code := e.state()
	r.explain(ctx, e, code)
	defer r.s.cfg.Settled(r.call)
	set := r.settlement(ctx, e)
	// What was admitted is accounted for, also when its client has left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	wait := 50 * time.Millisecond
	for try := 1; ; try++ {
		mine, err := r.s.write(ctx, r.call, set)
		if err == nil {
			if !mine {
				// A worker took this process for dead, and the request for lost.
				r.s.cfg.Logger.WarnContext(ctx, "prediction was settled before", r.ids()...)
			}
			return time.Now()
		}
		if errors.Is(err, tenantdb.ErrInvalid) && set.Output != nil {
			set.Output, set.Salt = nil, nil // better settled without its text than not at all
			continue
		}
		if try == settleTries || !r.s.pause(ctx, wait) {
			r.spool(ctx, set, try, err)
			return time.Time{}
		}
		wait *= 3
	}
}

// write settles together with others of the tenant that end meanwhile.
func (s *Service) write(ctx context.Context, c Call, set tenantdb.Settlement) (bool, error) {
	never := func(_, _ tenantdb.Settlement) bool { return false }
	return s.settles.do(ctx, c.Scope, set, never, func(ctx context.Context, list []tenantdb.Settlement) (settled []bool, err error) {
		err = c.Tenant.Borrow(ctx, tenantdb.Settle, func(ctx context.Context, db *tenantdb.DB) error {
			settled, err = db.SettleAll(ctx, list)
			return err
		})
		return settled, err
	})
}

// spool keeps a settlement for later.
func (r *record) spool(ctx context.Context, set tenantdb.Settlement, tries int, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spoolTimeout)
	defer cancel()
	err := r.s.cfg.Spool(ctx, r.call.Scope, set)
	attrs := append(r.ids(), "tries", tries, "database_unavailable", errors.Is(cause, tenantdb.ErrUnavailable))
	if err != nil {
		// Nothing is billed then, and the month's limit takes what was granted.
		r.s.cfg.Logger.ErrorContext(ctx, "prediction could be neither settled nor spooled", append(attrs, "spool_err", err)...)
		return
	}
	r.s.cfg.Logger.WarnContext(ctx, "settlement spooled", attrs...)
}

// pause waits and reports whether both ctx and the service outlasted it.
func (s *Service) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.life.Done():
		return false
	}
}
