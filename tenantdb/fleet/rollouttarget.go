package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
)

// serverRun is what a run knows of a server: how to log in, and that it was away.
type serverRun struct {
	name    string
	retries int

	mu     sync.Mutex
	config *pgx.ConnConfig // guarded by mu: of its owner, on some database; nil: to be read
	read   time.Time       // guarded by mu: when it was
	tries  int             // guarded by mu: that found it away, one after another
	until  time.Time       // guarded by mu: it is let alone
}

// configFor is how migrations log in at a database of the server. It is read anew
// now and then: passwords are changed, and servers are set down.
const configAge = 10 * time.Second

func (r *run) configFor(ctx context.Context, s *serverRun, database string) (*pgx.ConnConfig, error) {
	s.mu.Lock()
	defer s.mu.Unlock() // one of them reads for all
	if s.config == nil || time.Since(s.read) > configAge {
		server, err := r.cat.Server(ctx, s.name)
		if err != nil {
			return nil, err
		}
		if server.State == catalog.ServerDown {
			s.config = nil
			return nil, errServerDown
		}
		cfg, err := r.ownerConfig(ctx, s.name, database)
		if err != nil {
			return nil, err
		}
		cfg.DialFunc = noticing.DialContext
		s.config, s.read = cfg, time.Now()
	}
	cfg := s.config.Copy()
	cfg.Database = database
	return cfg, nil
}

// noticing finds out within half a minute that a server's machine is gone: a
// migration would be waited for much longer, and its claim kept.
var noticing = net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
	Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
}}

// catalogRest is how long a target waits that the catalog couldn't be asked about.
const catalogRest = time.Second

var errServerDown = errors.New("its server is set down")

// resting says that the server was found away a moment ago.
func (s *serverRun) resting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.until)
}

// away notes that the server took no connection. It returns how long to leave it
// alone; false when that was often enough: its targets fail now.
func (s *serverRun) away() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = nil
	if now := time.Now(); now.After(s.until) { // of many at once, one counts
		s.tries++
		s.until = now.Add(retryIn(s.tries))
	}
	if s.tries > s.retries {
		s.until = time.Time{}
		return 0, false
	}
	return time.Until(s.until), true
}

func (s *serverRun) there() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries, s.until = 0, time.Time{}
}

// retryIn is between half and all of 500 ms, 1 s, 2 s, … a minute.
func retryIn(try int) time.Duration {
	d := min(time.Minute, 250*time.Millisecond<<min(try, 10))
	return d/2 + rand.N(d/2) //nolint:gosec // not a secret
}

// migrateTarget brings one tenant's database to the rollout's target.
func (r *run) migrateTarget(ctx context.Context, s *serverRun, c catalog.TargetClaim) catalog.TargetResult {
	began := time.Now()
	r.dieAt("rollout/claimed")
	res := catalog.TargetResult{TargetClaim: c, State: catalog.TargetDone, Needs: -1}
	applied, err := r.apply(ctx, s, c)
	res.Took = time.Since(began)
	res.Version = applied.To
	if err == nil {
		s.there()
		res.Needs = r.needs
		r.dieAt("rollout/done")
		return res
	}
	if applied.To > 0 && r.stream == catalog.StreamFreehold {
		if needs, nerr := r.Fleet.needs(applied.To); nerr == nil { // of one that is ahead it isn't known
			res.Needs = needs
		}
	}
	if errors.Is(err, migrations.ErrAhead) && applied.To <= r.known {
		s.there()
		return res // the catalog didn't know that it is beyond the target: nothing is left to do
	}
	r.failed(ctx, s, &res, err)
	return res
}

func (r *run) apply(ctx context.Context, s *serverRun, c catalog.TargetClaim) (migrations.Result, error) {
	cfg, err := r.configFor(ctx, s, c.Database)
	if err != nil {
		return migrations.Result{}, err
	}
	o := r.options
	return migrations.Options{
		LockTimeout: o.LockTimeout, StatementTimeout: o.StatementTimeout,
		At: func(point string) { r.dieAt("rollout/" + point) },
	}.Apply(ctx, cfg, r.set)
}

// failed says how a try ended that didn't end well: for good, or until the next.
func (r *run) failed(ctx context.Context, s *serverRun, res *catalog.TargetResult, err error) {
	switch {
	case ctx.Err() != nil:
		res.State = catalog.TargetWaiting // this process stops, which says nothing of the tenant
		return
	case errors.Is(err, catalog.ErrUnavailable): // and neither does this
		res.State, res.After = catalog.TargetWaiting, catalogRest
		return
	}
	res.State = catalog.TargetFailed
	res.Kind, res.Error = failure(ctx, err, res.Took, r.options.StatementTimeout)
	if m, ok := errors.AsType[*migrations.Error](err); ok {
		res.File = m.File
	}
	again := false
	switch res.Kind {
	case catalog.FailAway:
		if errors.Is(err, errServerDown) {
			res.Error = errServerDown.Error()
			break
		}
		res.After, again = s.away()
		// The others of its server may be there all the while.
		again = again && res.Attempts <= r.options.Retries
	case catalog.FailLocked:
		res.After, again = retryIn(res.Attempts), res.Attempts <= r.options.Retries
	}
	if res.Kind != catalog.FailAway {
		s.there()
	}
	level := r.log.ErrorContext
	if again {
		res.State = catalog.TargetWaiting
		level = r.log.WarnContext
	}
	level(ctx, "tenant not migrated", "rollout", r.id, "tenant", res.Tenant.String(), "slug", res.Slug,
		"kind", res.Kind, "file", res.File, "attempt", res.Attempts, "reason", res.Error)
}

// failure is the kind of a migration's failure, and says it in words that can be shown.
func failure(ctx context.Context, err error, took, limit time.Duration) (kind, text string) {
	kind = kindOf(ctx, err)
	switch {
	case kind == catalog.FailMissing:
		return kind, "there is no such database"
	case kind == catalog.FailTime && limit > 0 && took >= limit:
		return kind, fileOf(err) + "a statement took longer than " + limit.String()
	case kind == catalog.FailTime:
		return kind, fileOf(err) + "a statement was cancelled"
	}
	return kind, reason(ctx, err)
}

// kindOf sorts failures by what a person does about them.
func kindOf(ctx context.Context, err error) string {
	switch s := state(err); {
	case errors.Is(err, migrations.ErrAhead):
		return catalog.FailAhead
	case errors.Is(err, migrations.ErrInvalidIndex):
		return catalog.FailInvalid
	case s == stateNoDatabase:
		return catalog.FailMissing
	case locked(err) || errors.Is(err, migrations.ErrLocked):
		return catalog.FailLocked
	case s == stateQueryCancelled:
		return catalog.FailTime
	case errors.Is(err, errServerDown), s == stateNoPassword: // that was changed since it was read
		return catalog.FailAway
	}
	if away := errors.Is(translate(ctx, err), tenantdb.ErrUnavailable); away {
		return catalog.FailAway
	}
	if _, ok := errors.AsType[*migrations.Error](err); ok {
		return catalog.FailSQL
	}
	return catalog.FailOther
}
