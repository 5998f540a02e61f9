package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
)

// maintenance is the database from which databases and roles are made.
const maintenance = "postgres"

const (
	connectTimeout = 5 * time.Second
	closeTimeout   = 2 * time.Second
)

// admin connects to a database of a server as its admin. The caller closes, with
// closeConn.
func (f *Fleet) admin(ctx context.Context, server, database string) (*pgx.Conn, error) {
	cfg, err := f.cat.ServerAdmin(ctx, server, database)
	return connectAdmin(ctx, server, cfg, err)
}

// adminByID is admin for a server's id.
func (f *Fleet) adminByID(ctx context.Context, server, database string) (*pgx.Conn, error) {
	cfg, err := f.cat.ServerAdminByID(ctx, server, database)
	return connectAdmin(ctx, server, cfg, err)
}

func connectAdmin(ctx context.Context, server string, cfg *pgx.ConnConfig, err error) (*pgx.Conn, error) {
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", server, err)
	}
	conn, err := connect(ctx, session(cfg))
	if err != nil {
		return nil, fmt.Errorf("connect to server %s: %w", server, err)
	}
	return conn, nil
}

// ownerConfig is how DDL in a tenant's database logs in: as the admin, who
// becomes freehold_owner before the first statement.
func (f *Fleet) ownerConfig(ctx context.Context, server, database string) (*pgx.ConnConfig, error) {
	cfg, err := f.cat.ServerAdmin(ctx, server, database)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", server, err)
	}
	cfg = session(cfg)
	cfg.RuntimeParams["role"] = migrations.RoleOwner
	return cfg, nil
}

// owner connects to a tenant's database as freehold_owner.
func (f *Fleet) owner(ctx context.Context, t catalog.Tenant) (*pgx.Conn, error) {
	cfg, err := f.ownerConfig(ctx, t.Server, t.Database)
	if err != nil {
		return nil, err
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the tenant's database: %w", err)
	}
	return conn, nil
}

// deadPeer are settings of the server's side of a connection: when this process
// or its machine is gone without a word, its session ends within half a minute,
// and with it the locks that it holds.
var deadPeer = map[string]string{
	"tcp_keepalives_idle":     "10",    // seconds
	"tcp_keepalives_interval": "5",     // seconds
	"tcp_keepalives_count":    "3",     // unanswered
	"tcp_user_timeout":        "25000", // milliseconds
}

// session copies cfg and gives it what every connection of a fleet has.
func session(cfg *pgx.ConnConfig) *pgx.ConnConfig {
	cfg = cfg.Copy()
	if cfg.RuntimeParams == nil {
		cfg.RuntimeParams = make(map[string]string)
	}
	cfg.RuntimeParams["application_name"] = "freehold-fleet"
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "60s"
	maps.Copy(cfg.RuntimeParams, deadPeer)
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	// A connection serves a handful of statements, each once: preparing them
	// would double their round trips.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	return cfg
}

// connect's error says tenantdb.ErrUnavailable and, where the server told why, that.
func connect(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		return conn, nil
	}
	err = translate(ctx, err)
	if _, told := errors.AsType[*refusal](err); told {
		err = fmt.Errorf("%w: %w", tenantdb.ErrUnavailable, err)
	}
	return nil, err
}

// closeConn closes conn within a bound, also when ctx is over: the server should
// know that we are gone, it holds our locks.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the socket is closed in any case
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }
