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
	// settlePatience is how long the database is waited for before the settlement is
	// spooled: a plain answer waits as long.
	settlePatience = 4 * time.Second
	settleWait     = 2 * time.Second // at most, between two tries
	// lastTry is how long a try may take once the service stops: the spool comes
	// after it, and the process's end after that.
	lastTry      = 500 * time.Millisecond
	spoolTimeout = 5 * time.Second
	// withdrawTimeout is shorter: nobody has got anything, and a client waits.
	withdrawTimeout = 2 * time.Second
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
	wait, began := 50*time.Millisecond, time.Now()
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
		if time.Since(began) >= settlePatience && r.spool(ctx, set, try, err) {
			return time.Time{}
		}
		// With the store away too, the database may be back first.
		if !r.s.pause(ctx, wait) {
			r.spool(ctx, set, try, err)
			return time.Time{}
		}
		wait = min(3*wait, settleWait)
	}
}

// lostError is an admission of which nobody knows whether it was written down.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }

func (e *lostError) Unwrap() error { return e.err }

// refused reports whether an error of the database says that nothing was done.
func refused(err error) bool {
	_, state := errors.AsType[*tenantdb.StateError](err)
	return state || errors.Is(err, tenantdb.ErrFenced) || errors.Is(err, tenantdb.ErrInvalid)
}

// withdraw ends an admission whose answer was lost. While this process lives nobody
// else would give back what may have been granted, or free the Idempotency-Key.
// What isn't there now may have been on its way: it is looked for once more, later.
func (r *record) withdraw(ctx context.Context) {
	r.keep = false
	end := ending{err: errLost, unasked: true, lost: true}
	set := r.settlement(ctx, end)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	mine, err := r.s.write(ctx, r.call, set)
	if err == nil && mine {
		r.s.cfg.Settled(r.call)
		return
	}
	r.spool(ctx, set, 1, err)
}

var errLost = errors.New("inference: the admission's answer was lost")

// write settles together with others of the tenant that end meanwhile.
func (s *Service) write(ctx context.Context, c Call, set tenantdb.Settlement) (bool, error) {
	never := func(_, _ tenantdb.Settlement) bool { return false }
	return s.settles.do(ctx, c.Scope, set, never, func(ctx context.Context, list []tenantdb.Settlement) (settled []bool, err error) {
		ctx, cancel := context.WithTimeout(ctx, settlePatience)
		defer cancel()
		defer context.AfterFunc(s.life, func() { hurry(ctx, cancel) })()
		err = c.Tenant.Borrow(ctx, tenantdb.Settle, func(ctx context.Context, db *tenantdb.DB) error {
			settled, err = db.SettleAll(ctx, list)
			return err
		})
		return settled, err
	})
}

// hurry ends a try that takes longer than the last may.
func hurry(ctx context.Context, cancel context.CancelFunc) {
	t := time.NewTimer(lastTry)
	defer t.Stop()
	select {
	case <-t.C:
		cancel()
	case <-ctx.Done():
	}
}

// spool keeps a settlement for later, and reports whether it could.
func (r *record) spool(ctx context.Context, set tenantdb.Settlement, tries int, cause error) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spoolTimeout)
	defer cancel()
	err := r.s.cfg.Spool(ctx, r.call.Scope, set)
	attrs := append(r.ids(), "tries", tries)
	if cause != nil {
		attrs = append(attrs, "cause", cause) // of router or tenantdb: names no host and no content
	}
	if err != nil {
		// Nothing is billed then, and the month's limit takes what was granted.
		r.s.cfg.Logger.ErrorContext(ctx, "prediction could be neither settled nor spooled", append(attrs, "spool_err", err)...)
		return false
	}
	r.s.cfg.Logger.WarnContext(ctx, "settlement spooled", attrs...)
	return true
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
