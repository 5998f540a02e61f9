package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
)

// ServerAdd is what AddServer needs. URL is
// postgres://admin@host:port/postgres?sslmode=…, without a password.
type ServerAdd struct {
	Name, Region, URL, Password string
	Budget, Reserve             int // connections; 0: derived from max_connections
	Insecure                    bool

	// What it takes, as in catalog.ServerSpec: zero is the default for a new server,
	// and leaves a known one as it is.
	Labels                           map[string]string
	Plans                            []string
	Ready, MaxDatabases, MaxRecovery int
	DiskBytes                        int64
}

// Versions of Postgres that are known to do, as server_version_num.
const minVersion, beyondVersion = 15_00_00, 19_00_00

// AddServer checks the server (reachable, version 15–18, CREATEDB and CREATEROLE,
// CONNECT of strangers tested with a throw-away role), prepares its group roles and
// the template of tenants' databases, and writes the catalog. What it lacks for moves
// by replication is no refusal: Lacks names it, and CheckLinks has tried it with the
// other servers. Idempotent by name (updates the same host;
// catalog.ErrExists when the name is another's). Errors: catalog.ErrInvalid, ErrInsecureServer,
// ErrServerOpen, ErrServerUnfit, tenantdb.ErrUnavailable, and catalog.AddServer's.
func (f *Fleet) AddServer(ctx context.Context, a ServerAdd) (catalog.Server, error) {
	spec, err := parseServerURL(a)
	if err != nil {
		return catalog.Server{}, fmt.Errorf("add server: %w", err)
	}
	if err := f.knownElsewise(ctx, spec); err != nil {
		return catalog.Server{}, fmt.Errorf("add server: %w", err)
	}
	cfg, err := spec.AdminConfig(maintenance)
	if err != nil {
		return catalog.Server{}, fmt.Errorf("add server: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, session(cfg))
	if err != nil {
		return catalog.Server{}, fmt.Errorf("add server: %w", unreachable(ctx, spec, err))
	}
	defer closeConn(ctx, conn)
	facts, err := readFacts(ctx, conn)
	if err != nil {
		return catalog.Server{}, fmt.Errorf("add server: %w", err)
	}
	if err := facts.fit(); err != nil {
		return catalog.Server{}, fmt.Errorf("add server: %w", err)
	}
	spec.Version, spec.MaxConnections = facts.Version, facts.MaxConnections
	if spec.Budget, spec.Reserve, err = facts.share(a.Budget, a.Reserve); err != nil {
		return catalog.Server{}, fmt.Errorf("add server: %w", err)
	}
	if err := migrations.EnsureServerRoles(ctx, conn); err != nil {
		if errors.Is(err, migrations.ErrNotGranted) || errors.Is(err, migrations.ErrUnsafeRole) {
			return catalog.Server{}, fmt.Errorf("add server: %w: %w", ErrServerUnfit, err)
		}
		return catalog.Server{}, fmt.Errorf("add server: make group roles: %w", translate(ctx, err))
	}
	if err := testStrangers(ctx, conn, cfg); err != nil {
		return catalog.Server{}, fmt.Errorf("add server: %w", err)
	}
	server, err := f.cat.AddServer(ctx, spec)
	if errors.Is(err, catalog.ErrExists) {
		server, err = f.updateServer(ctx, conn, spec)
	}
	if err != nil {
		return catalog.Server{}, fmt.Errorf("add server: %w", err)
	}
	// Made now, so that the first tenant doesn't wait for it and a server that
	// can't make databases is found out here.
	if err := f.firstTemplate(ctx, conn, server.Name); err != nil {
		return server, fmt.Errorf("add server: %w", err)
	}
	// Placement goes by what was measured; without it, by what Postgres has by default.
	if sizes, err := readSizes(ctx, conn); err != nil {
		f.log.WarnContext(ctx, "server not measured", "server", server.Name, "error", reason(ctx, err))
	} else if err := f.cat.SetMeasure(ctx, server.ID, sizes); err != nil {
		return server, fmt.Errorf("add server: %w", err)
	}
	if err := f.cat.SetFitness(ctx, server.Name, facts.fitness()); err != nil {
		return server, fmt.Errorf("add server: %w", err)
	}
	if err := f.CheckLinks(ctx, server.Name); err != nil {
		// Moves that nobody has tried are copies; the server is as good as any without.
		f.log.WarnContext(ctx, "links between servers not tried", "server", server.Name, "reason", reason(ctx, err))
	}
	if server, err = f.cat.Server(ctx, server.Name); err != nil {
		return server, fmt.Errorf("add server: %w", err)
	}
	f.log.InfoContext(ctx, "server added", "server", server.Name, "version", server.Version,
		"budget", server.Budget, "reserve", server.Reserve)
	return server, nil
}

// knownElsewise refuses a server that has a name already: two would share its
// connections out twice.
func (f *Fleet) knownElsewise(ctx context.Context, spec catalog.ServerSpec) error {
	servers, err := f.cat.Servers(ctx)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.Host == spec.Host && s.Port == spec.Port && s.Name != spec.Name {
			return fmt.Errorf("%w: this address is server %s", catalog.ErrExists, s.Name)
		}
	}
	return nil
}

const someExist = `select exists (select oid from pg_database where datname = any($1))`

// updateServer updates a known server, unless what answers now on its host isn't
// it: then none of its tenants would be there.
func (f *Fleet) updateServer(ctx context.Context, conn *pgx.Conn, spec catalog.ServerSpec) (catalog.Server, error) {
	tenants, err := f.cat.Tenants(ctx, catalog.TenantFilter{Server: spec.Name, Limit: page})
	if err != nil {
		return catalog.Server{}, err
	}
	var databases []string
	for _, t := range tenants {
		if t.State != catalog.Provisioning {
			databases = append(databases, t.Database)
		}
	}
	if len(databases) > 0 {
		var some bool
		if err := conn.QueryRow(ctx, someExist, databases).Scan(&some); err != nil {
			return catalog.Server{}, translate(ctx, err)
		}
		if !some {
			return catalog.Server{}, fmt.Errorf("%w: %s, and its tenants are not on this one", catalog.ErrExists, spec.Name)
		}
	}
	return f.cat.UpdateServer(ctx, spec)
}

// unreachable tells the operator what stands in the way.
func unreachable(ctx context.Context, spec catalog.ServerSpec, err error) error {
	if state(err) == stateDenied {
		return fmt.Errorf("%w: the admin may not connect to database %s; a superuser runs once: %s",
			ErrServerUnfit, maintenance, SuperuserStatement(spec.AdminUser))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %s", tenantdb.ErrUnavailable, whyUnreachable(err))
}

type facts struct {
	Version        int
	Superuser      bool
	CreateDB       bool
	CreateRole     bool
	MaxConnections int
	Kept           int // connections that only superusers and their like get
	Standby        bool
	WALLevel       string
	Replication    bool   // the admin has REPLICATION
	Subscriber     bool   // and may make subscriptions in this database, from Postgres 16 on
	SyncMethod     string // off without fsync
}

const selectFacts = `
select current_setting('server_version_num')::int as version,
       r.rolsuper as superuser, r.rolcreatedb as create_db, r.rolcreaterole as create_role,
       current_setting('max_connections')::int as max_connections,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0) as kept,
       pg_is_in_recovery() as standby,
       current_setting('wal_level') as wal_level, r.rolreplication as replication,
       exists (select from pg_roles p
                where p.rolname = 'pg_create_subscription' and pg_has_role(r.oid, p.oid, 'usage'))
           and has_database_privilege(r.oid, current_database(), 'create') as subscriber,
       case current_setting('fsync') when 'off' then 'off'
            else current_setting('recovery_init_sync_method') end as sync_method
  from pg_roles r where r.rolname = session_user`

func readFacts(ctx context.Context, conn *pgx.Conn) (facts, error) {
	rows, _ := conn.Query(ctx, selectFacts) // its error is in rows
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[facts])
	if err != nil {
		return facts{}, fmt.Errorf("read settings: %w", translate(ctx, err))
	}
	return found, nil
}

// fit names everything that doesn't do.
func (s facts) fit() error {
	var errs []error
	if s.Version < minVersion || s.Version >= beyondVersion {
		errs = append(errs, fmt.Errorf("%w: Postgres %d.%d, want 15 to 18", ErrServerUnfit, s.Version/10000, s.Version%10000))
	}
	if !s.Superuser && !s.CreateDB {
		errs = append(errs, fmt.Errorf("%w: the admin lacks CREATEDB", ErrServerUnfit))
	}
	if !s.Superuser && !s.CreateRole {
		errs = append(errs, fmt.Errorf("%w: the admin lacks CREATEROLE", ErrServerUnfit))
	}
	if s.Standby {
		errs = append(errs, fmt.Errorf("%w: it is a standby", ErrServerUnfit))
	}
	return errors.Join(errs...)
}

// share divides the connections that ordinary roles can have into budget and
// reserve, the part for people, backups and other programs.
func (s facts) share(budget, reserve int) (int, int, error) {
	usable := s.MaxConnections - s.Kept
	if budget < 0 || reserve < 0 {
		return 0, 0, fmt.Errorf("%w: Budget, Reserve: not negative", catalog.ErrInvalid)
	}
	if reserve == 0 {
		reserve = max(5, usable/10)
	}
	if budget == 0 {
		budget = usable - reserve
	}
	if budget < 1 || budget+reserve > usable {
		return 0, 0, fmt.Errorf("%w: budget %d and reserve %d: the server has %d connections for us",
			ErrServerUnfit, budget, reserve, usable)
	}
	return budget, reserve, nil
}
