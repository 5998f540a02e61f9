package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"freehold/migrations"
)

const (
	connectTimeout = 5 * time.Second
	// pingTimeout bounds the question that a pool asks of a connection that was
	// idle, so that a silent peer costs a request no more than this.
	pingTimeout = time.Second
)

// Catalog reads and writes the catalog database. It is safe for concurrent use.
type Catalog struct {
	keyset *Keyset
	logger *slog.Logger

	// The admin's, each with a role taken on.
	writer *pgxpool.Pool // freehold_catalog: our own writers, caches and workers
	reader *pgxpool.Pool // freehold_api: tenant-facing reads, under row-level security

	tls sync.Map // endpoint to *tls.Config, shared by its routes

	queueConfig *pgxpool.Config
	queueMu     sync.Mutex // guards queue
	queue       *pgxpool.Pool
}

// Open connects, and refuses with ErrNotMigrated or ErrWrongMasterKey. A schema
// newer than this binary's is taken, with a warning in the log: every migration is
// safe while the release before it still runs, and a node of that release has to
// be able to start again. The caller closes.
func Open(ctx context.Context, cfg Config) (*Catalog, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	if err := checkVersion(ctx, cfg); err != nil {
		return nil, err
	}
	c := &Catalog{keyset: cfg.Keyset, logger: cfg.Logger}
	err := c.connect(ctx, cfg)
	if err == nil {
		err = c.checkSeal(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Catalog) connect(ctx context.Context, cfg Config) (err error) {
	if c.writer, err = newPool(ctx, cfg.URL, migrations.RoleCatalog, cfg.WriterConns, 10*time.Second); err != nil {
		return err
	}
	if c.reader, err = newPool(ctx, cfg.URL, migrations.RoleAPI, cfg.ReaderConns, 10*time.Second); err != nil {
		return err
	}
	// River's maintenance deletes and reindexes: a minute is its own bound.
	c.queueConfig, err = poolConfig(cfg.URL, migrations.RoleCatalog, cfg.QueueConns, 70*time.Second)
	if err != nil {
		return err
	}
	for _, pool := range []*pgxpool.Pool{c.writer, c.reader} {
		if err := pool.Ping(ctx); err != nil {
			return loginError(err)
		}
	}
	return nil
}

// loginError tells a role that Migrate would make from an unreachable server.
func loginError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == invalidParameter {
		return fmt.Errorf("open catalog: %w", ErrNotMigrated)
	}
	return wrap("open catalog", err)
}

// Close closes the pools; it waits for whoever still holds a connection.
func (c *Catalog) Close() {
	c.queueMu.Lock()
	queue := c.queue
	c.queueMu.Unlock()
	for _, pool := range []*pgxpool.Pool{queue, c.reader, c.writer} {
		if pool != nil {
			pool.Close()
		}
	}
}

// renew has every pooled connection replaced: when the server went away once,
// each of them would else fail one more call.
func (c *Catalog) renew() {
	c.writer.Reset()
	c.reader.Reset()
}

// QueuePool returns the pool that River works on, opened at the first call and
// closed by Close. It is apart from the others so that neither can starve the
// other. Only catalog/queue may call it.
func (c *Catalog) QueuePool() (*pgxpool.Pool, error) {
	c.queueMu.Lock()
	defer c.queueMu.Unlock()
	if c.queue == nil {
		// Without a minimum of connections the pool doesn't dial, so the context
		// bounds nothing.
		pool, err := pgxpool.NewWithConfig(context.Background(), c.queueConfig)
		if err != nil {
			return nil, wrap("open queue's pool", err)
		}
		c.queue = pool
	}
	return c.queue, nil
}

func newPool(ctx context.Context, url, role string, conns int, statement time.Duration) (*pgxpool.Pool, error) {
	cfg, err := poolConfig(url, role, conns, statement)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, wrap("open catalog", err)
	}
	return pool, nil
}

func poolConfig(url, role string, conns int, statement time.Duration) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, invalid(errors.New("URL: not a Postgres URL"))
	}
	sessionParams(cfg.ConnConfig, role, statement)
	cfg.MaxConns = int32(conns)
	cfg.MinConns, cfg.MinIdleConns = 0, 0
	cfg.MaxConnIdleTime = time.Minute
	cfg.MaxConnLifetime = 30 * time.Minute
	cfg.MaxConnLifetimeJitter = 5 * time.Minute
	cfg.HealthCheckPeriod = 15 * time.Second
	cfg.PingTimeout = pingTimeout
	return cfg, nil
}

// sessionParams sets what each of our sessions starts with. search_path is
// fixed, so that nobody's schema comes before ours.
func sessionParams(cfg *pgx.ConnConfig, role string, statement time.Duration) {
	cfg.ConnectTimeout = connectTimeout
	params := cfg.RuntimeParams
	if role != "" {
		params["role"] = role
	}
	params["application_name"] = "freehold"
	params["search_path"] = "public"
	params["jit"] = "off" // to compile a statement takes longer than any of ours lasts
	params["statement_timeout"] = milliseconds(statement)
	params["lock_timeout"] = milliseconds(5 * time.Second)
	params["idle_in_transaction_session_timeout"] = milliseconds(30 * time.Second)
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// checkVersion compares the schema with the one that this binary was built for,
// as the admin: the version table isn't the roles' business.
func checkVersion(ctx context.Context, cfg Config) error {
	conn, err := connectAdmin(ctx, cfg.URL)
	if err != nil {
		return wrap("open catalog", err)
	}
	defer closeConn(ctx, conn)
	set := migrations.Catalog()
	want, err := set.Latest()
	if err != nil {
		return fmt.Errorf("open catalog: %w", err)
	}
	have, err := migrations.Version(ctx, conn, set)
	if err != nil {
		return wrap("open catalog", err)
	}
	if have < want {
		return fmt.Errorf("open catalog: version %d, binary's %d: %w", have, want, ErrNotMigrated)
	}
	if have > want {
		cfg.Logger.WarnContext(ctx, "catalog was migrated by a newer release", "version", have, "binary", want)
	}
	return nil
}

// closeConn says goodbye, also when ctx has ended, so that the server doesn't log
// a lost client.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the socket is closed in any case
}

func connectAdmin(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, invalid(errors.New("URL: not a Postgres URL"))
	}
	sessionParams(cfg, "", time.Minute)
	return pgx.ConnectConfig(ctx, cfg)
}
