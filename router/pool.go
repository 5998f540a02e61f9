package router

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"freehold/catalog"
	"freehold/tenantdb"
)

const (
	// connectTimeout bounds a dial and, apart from it, the proof that follows: a
	// dial goes on when its caller has left and occupies a place in the pool.
	connectTimeout = 3 * time.Second
	// pingTimeout bounds the ping of a connection that was idle for a second,
	// which would else last until the borrower's deadline when the peer is gone.
	pingTimeout = time.Second
	// cancelGrace is how long a cancelled statement may take to end before its
	// connection is given up.
	cancelGrace = time.Second
)

// pool is one tenant's connections at one server, from the first borrow to close.
type pool struct {
	id     catalog.TenantID
	router *Router
	pg     *pgxpool.Pool
	srv    *server
	rec    *record
	born   int64 // the epoch that it was made for

	// gone is closed when the pool goes out of use: nobody may begin a borrow.
	gone chan struct{}
	// drained is closed when, after that, the last pin is off.
	drained chan struct{}
	// closed is closed when, after that, its last ticket has been given back.
	closed chan struct{}

	// Guarded by Router.mu:
	route catalog.Route
	asOf  int64 // the epoch that route is the truth of, at least
	pins  int   // borrowers from look-up to release

	tickets map[*ticket]struct{}
	holder  int // index in server.holders, -1 when it holds no ticket
	dials   int // tickets in state dialing
	ready   int // in state ready: idle, or in a lease that is out
	leases  []*lease
	spare   []*lease // the leases that are not out
	lent    int      // the leases that are
	batch   int      // of these, for background work

	waiting waiters
	need    int       // index in server.needs, -1 when it isn't there
	since   time.Time // when it began to need a ticket
	idleAt  time.Time // when a lease came back last
	calm    time.Time // no further connection before this
	shut    bool      // its pgxpool is closed
	settled time.Time // look-ups for a doubtful route aren't repeated before this
}

func (p *pool) isGone() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// idle is how many connections can be lent without a dial. Guarded by Router.mu.
func (p *pool) idle() int { return max(0, p.ready-p.lent) }

// newTemplate makes what all pools have in common. ParseConfig is the only way to
// a pgxpool.Config; every setting it could take from the environment that might
// be malformed there is given.
func newTemplate(cfg Config) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig("host=127.0.0.1 port=5432 user=x password=x dbname=x sslmode=disable " +
		"connect_timeout=3 target_session_attrs=any")
	if err != nil {
		return nil, errors.New("the environment's PG… variables can't be read")
	}
	// The tickets are the bound. pgxpool counts connections until they are closed,
	// and must not be what a borrower with a lease waits for.
	c.MaxConns = int32(4*cfg.ConnsPerTenant + 16)
	// A minimum would dial for ever, and silently, what can't be reached.
	c.MinConns, c.MinIdleConns = 0, 0
	c.MaxConnLifetime = time.Hour
	c.MaxConnLifetimeJitter = 6 * time.Minute
	c.HealthCheckPeriod = min(max(cfg.IdleTimeout/4, 100*time.Millisecond), 10*time.Second)
	c.PingTimeout = pingTimeout
	c.ShouldPing = idleTooLong
	return c, nil
}

// newPool makes a tenant's pool without connecting; it holds mu. The caller owns
// closing it.
func (r *Router) newPool(pg *pgxpool.Pool, id catalog.TenantID, route catalog.Route, asOf int64) *pool {
	return &pool{
		id:      id,
		router:  r,
		pg:      pg,
		srv:     r.server(route),
		rec:     r.record(id),
		born:    asOf,
		gone:    make(chan struct{}),
		drained: make(chan struct{}),
		closed:  make(chan struct{}),
		route:   route,
		asOf:    asOf,
		idleAt:  time.Now(),
		tickets: make(map[*ticket]struct{}, 1),
		holder:  -1,
		need:    -1,
	}
}

// newPgxpool makes what connects, without connecting.
func (r *Router) newPgxpool(ctx context.Context, id catalog.TenantID, route catalog.Route) (*pgxpool.Pool, error) {
	c := r.template.Copy()
	c.ConnConfig = r.connConfig(route, min(connectTimeout, r.cfg.OpenTimeout))
	// Spread over ±10 %, so that pools opened together don't close together.
	c.MaxConnIdleTime = time.Duration(float64(r.cfg.IdleTimeout) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // jitter is no secret
	c.BeforeConnect = useTicket
	c.AfterConnect = prove(id, route, r.cfg.Logger)
	return pgxpool.NewWithConfig(ctx, c)
}

// connConfig is how one connection is made.
func (r *Router) connConfig(route catalog.Route, timeout time.Duration) *pgx.ConnConfig {
	c := route.Config.Copy()
	if c.ConnectTimeout <= 0 || c.ConnectTimeout > timeout {
		c.ConnectTimeout = timeout
	}
	if c.RuntimeParams == nil {
		c.RuntimeParams = make(map[string]string, 2)
	}
	c.RuntimeParams["application_name"] = "freehold-router"
	if r.cfg.Node != "" {
		c.RuntimeParams["application_name"] += "/" + r.cfg.Node
	}
	// Statements take keys and arrays, for which one plan is as good as another, and
	// a request's two statements take longer to plan than to run.
	c.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	if r.cfg.Tracer != nil {
		c.Tracer = r.cfg.Tracer
	}
	fatal := c.OnPgError
	c.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		r.told(route.ServerID, err)
		return fatal == nil || fatal(conn, err)
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	// Both caches allocate their capacity at once, for each connection.
	c.StatementCacheCapacity = 64
	c.DescriptionCacheCapacity = 16
	// A client that goes away must not cost a connection: ask the server to end
	// the statement, and break off only when it doesn't.
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelGrace}
	}
	return c
}

// prove returns the check that each new connection passes before its first use.
// pgxpool closes the connection when it fails. The tenant is the one that was
// asked for, whatever the route says.
func prove(id catalog.TenantID, route catalog.Route, log *slog.Logger) func(context.Context, *pgx.Conn) error {
	server, database := route.ServerID, route.Config.Database
	return func(ctx context.Context, conn *pgx.Conn) error {
		// The pool's own ctx has no deadline, and ConnectTimeout ends before this.
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		err := tenantdb.Prove(ctx, conn, id)
		if errors.Is(err, tenantdb.ErrForeign) {
			log.ErrorContext(ctx, "connection refused, its database is another tenant's",
				"tenant", id.String(), "server", server, "database", database)
		}
		return err
	}
}

// sameTLS compares what catalog.Route sets: whether there is encryption, who is
// believed, and whether that is looked at.
func sameTLS(a, b *tls.Config) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.InsecureSkipVerify == b.InsecureSkipVerify && a.ServerName == b.ServerName && a.RootCAs.Equal(b.RootCAs)
}

// sameTarget reports whether a pool made for a serves b as well.
func sameTarget(a, b catalog.Route) bool {
	x, y := a.Config, b.Config
	return a.ServerID == b.ServerID &&
		x.Host == y.Host && x.Port == y.Port && sameTLS(x.TLSConfig, y.TLSConfig) &&
		x.Database == y.Database && x.User == y.User && x.Password == y.Password
}
