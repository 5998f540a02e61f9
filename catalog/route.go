package catalog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"unique"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Route is where a tenant lives and how to log in there.
type Route struct {
	Tenant        TenantID
	Slug          string
	Plan          string
	State         State
	Epoch         int64
	ServerID      string
	Server        string // its name
	SchemaVersion int64
	SchemaNeeds   int64 // latest version that a binary must know to serve it; 0: SchemaVersion
	Budget        int   // the server's
	// Config logs in as the tenant's role on its database. Copy before changing.
	Config *pgx.ConnConfig
}

// endpoint is how to reach a server, without who logs in.
type endpoint struct {
	Host      string
	Port      int
	SSLMode   string
	SSLRootCA string
}

const selectRoute = `
select t.slug, t.plan, t.state, t.epoch, t.schema_version, t.schema_needs, t.database, t.role, t.secret,
       s.id::text, s.name, s.budget, s.host, s.port, s.ssl_mode, s.ssl_root_ca
  from tenants t join servers s on s.id = t.server_id
 where t.id = $1 and t.state <> 'deleted'`

// Route reads a route and unseals its secret. ErrNotFound for unknown and
// deleted tenants.
func (c *Catalog) Route(ctx context.Context, id TenantID) (Route, error) {
	r := Route{Tenant: id}
	var at endpoint
	var database, role string
	var sealed []byte
	err := c.writer.QueryRow(ctx, selectRoute, id).Scan(&r.Slug, &r.Plan, &r.State, &r.Epoch, &r.SchemaVersion,
		&r.SchemaNeeds, &database, &role, &sealed, &r.ServerID, &r.Server, &r.Budget, &at.Host, &at.Port, &at.SSLMode, &at.SSLRootCA)
	if err != nil {
		return Route{}, wrap("read route", err)
	}
	// A node keeps thousands of these, and few of these texts differ.
	for _, text := range []*string{&r.Plan, &r.Server, &r.ServerID, &at.Host} {
		*text = unique.Make(*text).Value()
	}
	if role == database {
		role = database
	}
	secret, err := c.keyset.Open(sealed, tenantAAD(id))
	if err != nil {
		return Route{}, fmt.Errorf("read route: %w", err)
	}
	r.Config, err = at.login(role, string(secret), database, c.encryption)
	return r, err
}

const selectServerAdmin = `
select id::text, host, port, ssl_mode, ssl_root_ca, admin_user, admin_secret from servers`

// ServerAdmin returns how to log in as the server's admin on a database. Only
// tenantdb/fleet may call it.
func (c *Catalog) ServerAdmin(ctx context.Context, name, database string) (*pgx.ConnConfig, error) {
	return c.serverAdmin(ctx, database, selectServerAdmin+` where name = $1`, name)
}

// ServerAdminByID is ServerAdmin for a server's id.
func (c *Catalog) ServerAdminByID(ctx context.Context, id, database string) (*pgx.ConnConfig, error) {
	server, err := uuid.Parse(id)
	if err != nil {
		return nil, wrap("read server's admin", invalid(wrong("server", "want a uuid")))
	}
	return c.serverAdmin(ctx, database, selectServerAdmin+` where id = $1`, server)
}

func (c *Catalog) serverAdmin(ctx context.Context, database, sql string, key any) (*pgx.ConnConfig, error) {
	var at endpoint
	var id, user string
	var sealed []byte
	err := c.writer.QueryRow(ctx, sql, key).Scan(&id, &at.Host, &at.Port, &at.SSLMode,
		&at.SSLRootCA, &user, &sealed)
	if err != nil {
		return nil, wrap("read server's admin", err)
	}
	secret, err := c.keyset.Open(sealed, serverAAD(id))
	if err != nil {
		return nil, fmt.Errorf("read server's admin: %w", err)
	}
	return at.login(user, string(secret), database, c.encryption)
}

// neutral names everything that pgx would else take from the environment or from
// files of the user who runs this process.
const neutral = "host=localhost port=5432 user=freehold dbname=freehold sslmode=disable" +
	" passfile=/dev/null connect_timeout=5 target_session_attrs=any channel_binding=prefer"

// direct is what all direct connections have in common: no way to fall back to.
// It is read once, and its parts are shared: a node keeps thousands of routes.
var direct = sync.OnceValues(func() (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(neutral)
	if err != nil {
		return nil, fmt.Errorf("build route: the process's PG environment can't be read")
	}
	cfg.ConnectTimeout = connectTimeout
	cfg.Fallbacks = nil
	cfg.ValidateConnect = nil
	cfg.SSLNegotiation = ""
	cfg.RuntimeParams = map[string]string{"application_name": "freehold"}
	return cfg, nil
})

// login builds the configuration of a direct connection: one host, one way to
// encrypt. Whoever changes it copies it first.
func (at endpoint) login(user, password, database string, encrypt func(endpoint) (*tls.Config, error)) (*pgx.ConnConfig, error) {
	shared, err := direct()
	if err != nil {
		return nil, err
	}
	own := *shared
	cfg := &own
	cfg.Host, cfg.Port = at.Host, uint16(at.Port)
	cfg.User, cfg.Password, cfg.Database = user, password, database
	cfg.TLSConfig, err = encrypt(at)
	return cfg, err
}

// encryption is endpoint.tls, made once for each endpoint.
func (c *Catalog) encryption(at endpoint) (*tls.Config, error) {
	if known, ok := c.tls.Load(at); ok {
		return known.(*tls.Config), nil
	}
	cfg, err := at.tls()
	if err == nil {
		c.tls.Store(at, cfg)
	}
	return cfg, err
}

// tls follows libpq's meaning of sslmode: require encrypts and trusts whoever
// answers, verify-full also proves who it is.
func (at endpoint) tls() (*tls.Config, error) {
	mode := at.SSLMode
	if strings.HasPrefix(at.Host, "/") {
		mode = "disable" // a socket has no TLS
	}
	switch mode {
	case "disable":
		return nil, nil
	case "require":
		//nolint:gosec // what the operator asked for; server add warns
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: at.Host, InsecureSkipVerify: true}, nil
	case "verify-full":
		cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: at.Host}
		if at.SSLRootCA == "" {
			return cfg, nil // the system's own roots
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM([]byte(at.SSLRootCA)) {
			return nil, fmt.Errorf("build route: ssl_root_ca: no certificate in it")
		}
		return cfg, nil
	}
	return nil, fmt.Errorf("build route: unknown ssl_mode %q", at.SSLMode)
}
