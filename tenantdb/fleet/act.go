package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
)

// step is a part of an act. It may run any number of times, and a part of it may
// have run before: it looks at what is there and does the rest.
type step struct {
	name string
	run  func(ctx context.Context, a *act) error
}

// acts are what a fleet knows to do, by kind of operation. (A function, because
// steps refer to it.)
func acts() map[string][]step {
	return map[string][]step{
		catalog.KindOnboard: onboarding,
		catalog.KindDelete:  deletion,
		catalog.KindMove:    moving,
		catalog.KindBackup:  backingUp,
		catalog.KindRestore: restoring,
		catalog.KindExport:  exporting,
	}
}

// stepNames are an act's steps, as an operation lists them.
func stepNames(steps []step) []string {
	names := make([]string, len(steps))
	for i, s := range steps {
		names[i] = s.name
	}
	return names
}

// act is one worker's run of an operation.
type act struct {
	*Fleet
	op     catalog.Operation
	tenant catalog.Tenant
	conn   *pgx.Conn // the admin's, on database postgres of the tenant's server; holds the tenant's lock
}

// taker is this worker, and how long an operation stays its without a sign of life.
func (f *Fleet) taker() catalog.Taker {
	return catalog.Taker{Worker: f.worker, Lease: f.beat * 5 / 2}
}

const (
	// maxAttempts is how often an operation is tried by itself before it waits for
	// a person: with the pauses between them some ten minutes.
	maxAttempts = 10
	minPause    = time.Second
	maxPause    = 2 * time.Minute
	// endTimeout bounds the writing of how an operation ended.
	endTimeout = 5 * time.Second
)

// Do takes an operation and does it, here and now. Its error is that of the step
// that failed; the operation then waits for another try, by any worker, or for a
// person. *catalog.Busy while another worker has it.
func (f *Fleet) Do(ctx context.Context, id string) error {
	o, err := f.cat.TakeOperation(ctx, id, f.taker())
	if err != nil {
		return err
	}
	return f.do(ctx, o)
}

// do does an operation that this worker has.
func (f *Fleet) do(ctx context.Context, o catalog.Operation) error {
	working, lost := context.WithCancelCause(ctx)
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		f.keep(working, o, lost)
	}()
	err := f.steps(working, o)
	lost(nil)
	<-beats
	if cause := context.Cause(working); errors.Is(cause, catalog.ErrLost) {
		return fmt.Errorf("operation %s: %w", o.ID, cause)
	}
	if cause := context.Cause(working); err != nil && errors.Is(cause, catalog.ErrCancelled) {
		err = cause
	}
	return f.ended(ctx, o, err)
}

// keep says that this worker lives until the work ends, and ends the work when the
// operation is another's.
func (f *Fleet) keep(ctx context.Context, o catalog.Operation, lost context.CancelCauseFunc) {
	lease, said, wait := f.taker().Lease, time.Now(), f.beat
	for pause(ctx, wait) == nil {
		began := time.Now()
		// A catalog that doesn't answer is one that nothing was said to.
		bounded, cancel := context.WithTimeout(ctx, min(f.beat, lease-began.Sub(said)))
		err := f.cat.KeepOperation(bounded, o, lease)
		cancel()
		switch {
		case errors.Is(err, catalog.ErrCancelled) && interrupted[o.Kind]:
			lost(err)
			return
		case err == nil || errors.Is(err, catalog.ErrCancelled): // heeded between steps
			said, wait = began, f.beat
		case errors.Is(err, catalog.ErrLost):
			lost(err)
			return
		case time.Since(said) >= lease:
			// Nobody has heard of this worker for so long that it must think itself dead.
			lost(fmt.Errorf("%w: no sign of life could be given", catalog.ErrLost))
			return
		default:
			wait = min(f.beat/4, lease-time.Since(said))
		}
	}
}

// steps runs what isn't done yet.
func (f *Fleet) steps(ctx context.Context, o catalog.Operation) error {
	steps, known := stepsOf(o)
	if !known {
		return fmt.Errorf("operation of kind %s: this binary doesn't know it", o.Kind)
	}
	a := &act{Fleet: f, op: o}
	defer func() {
		if a.conn != nil {
			closeConn(ctx, a.conn)
		}
	}()
	done := map[string]bool{}
	for _, s := range o.Steps {
		done[s.Name] = s.State == "done"
	}
	var err error
	if a.tenant, err = f.cat.Tenant(ctx, o.TenantID); err != nil {
		return err
	}
	if err := a.mayGoOn(ctx); err != nil {
		return err
	}
	for _, s := range steps {
		if done[s.name] {
			continue
		}
		if err := a.step(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// args reads the operation's arguments.
func (a *act) args(into any) error {
	if err := json.Unmarshal(a.op.Args, into); err != nil {
		return fmt.Errorf("operation %s: its arguments can't be read", a.op.ID)
	}
	return nil
}

func (a *act) step(ctx context.Context, s step) error {
	if err := a.cat.BeginStep(ctx, a.op, s.name); err != nil {
		return err
	}
	a.at(s.name + ":begun")
	err := s.run(ctx, a)
	if err == nil {
		a.at(s.name + ":made")
	}
	failure := ""
	if err != nil {
		failure = reason(ctx, err)
	}
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout) // also when ctx is over
	defer cancel()
	if rerr := a.cat.EndStep(rctx, a.op, s.name, failure); err == nil {
		err = rerr
	}
	if err == nil {
		a.at(s.name + ":recorded")
	}
	return err
}

// at is a point of an act at which dying differs.
func (a *act) at(point string) { a.dieAt(a.op.Kind + "/" + point) }

// dieAt is where a test may end the process.
func (f *Fleet) dieAt(point string) {
	if f.crash != nil {
		f.crash(point)
	}
}

// ended records how the work ended, and returns the work's error.
func (f *Fleet) ended(ctx context.Context, o catalog.Operation, err error) error {
	stopped := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout) // also when ctx is over
	defer cancel()
	state, failure, after := catalog.OperationDone, "", time.Duration(0)
	switch {
	case err == nil:
	case errors.Is(err, catalog.ErrLost):
		return fmt.Errorf("operation %s: %w", o.ID, err)
	case stopped && !errors.Is(err, catalog.ErrCancelled):
		// That is this process's or its caller's end, and says nothing of the operation.
		f.log.InfoContext(ctx, "operation left to the next worker", "operation", o.ID, "kind", o.Kind, "tenant", o.TenantID.String())
		_ = f.cat.ReleaseOperation(ctx, o) // or its lease runs out
		return err
	case errors.Is(err, catalog.ErrCancelled):
		state, failure = catalog.OperationCancelled, "cancelled"
	case (transient(err) || errors.Is(err, errChanged)) && o.Attempts < maxAttempts:
		state, failure, after = catalog.OperationWaiting, reason(ctx, err), backoff(o.Attempts)
	default:
		state, failure = catalog.OperationFailed, reason(ctx, err)
	}
	if state == catalog.OperationCancelled && o.Kind == catalog.KindOnboard {
		// Its worker takes back what it made, or leaves that to the next one.
		if uerr := f.undo(ctx, o, o.Actor); uerr != nil {
			f.log.WarnContext(ctx, "onboarding not yet cancelled", "operation", o.ID, "reason", reason(ctx, uerr))
		}
		return err
	}
	level := f.log.InfoContext
	if state == catalog.OperationFailed {
		level = f.log.ErrorContext
	}
	level(ctx, "operation ended", "operation", o.ID, "kind", o.Kind, "tenant", o.TenantID.String(), "state", state, "reason", failure)
	if undo, can := undos()[o.Kind]; can && (state != catalog.OperationWaiting || errors.Is(err, errChanged)) && err != nil {
		// It has a bound of its own.
		if uerr := f.endUndone(context.WithoutCancel(ctx), o, state, failure, after, undo); uerr != nil {
			f.log.WarnContext(ctx, "end of operation not recorded", "operation", o.ID, "kind", o.Kind, "reason", reason(ctx, uerr))
		}
		return err
	}
	if rerr := f.cat.EndOperation(ctx, o, state, failure, after); err == nil && rerr != nil {
		return fmt.Errorf("operation %s: %w", o.ID, rerr)
	}
	return err
}

// transient reports whether another try may do without a person: something was
// away, or took too long.
func transient(err error) bool {
	for _, passing := range []error{
		tenantdb.ErrUnavailable, catalog.ErrUnavailable, ErrUnfenced, ErrStore, ErrSessionsLeft, errAgain,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	s := state(err)
	return s == stateLockTimeout || s == stateDeadlock || s == stateInUse
}

func backoff(attempt int) time.Duration {
	d := min(maxPause, minPause<<min(attempt, 10))
	return d/2 + rand.N(d/2) //nolint:gosec // not a secret
}

// lock has the tenant's lock from here on. The connection that holds it may have
// been lost unnoticed, so it is asked.
func (a *act) lock(ctx context.Context) (err error) {
	if a.conn != nil {
		if a.conn.Ping(ctx) == nil {
			return nil
		}
		closeConn(ctx, a.conn)
	}
	a.conn, err = a.lockTenant(ctx, a.tenant.Server, a.tenant.ID)
	return err
}

// lockTenant connects to the tenant's server and takes the tenant's lock, which
// ends with the connection: whoever works on the tenant's database, wherever, has
// it. The caller closes.
func (f *Fleet) lockTenant(ctx context.Context, server string, id catalog.TenantID) (*pgx.Conn, error) {
	conn, err := f.admin(ctx, server, maintenance)
	if err != nil {
		return nil, err
	}
	if err := lockOn(ctx, conn, tenantLock(id)); err != nil {
		closeConn(ctx, conn)
		return nil, fmt.Errorf("wait for who works on the tenant: %w", err)
	}
	return conn, nil
}

// Who has the lock may be a stopped process whose machine keeps its connection.
const lockPatience = `set local lock_timeout = '30s'`

// lockOn waits for a lock that is the connection's until it ends, and not for ever:
// what isn't had by then is tried again, as what was away.
func lockOn(ctx context.Context, conn *pgx.Conn, name string) error {
	return translate(ctx, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockPatience); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, lockName, name)
		return err
	}))
}

func tenantLock(id catalog.TenantID) string { return "freehold tenant " + id.String() }
