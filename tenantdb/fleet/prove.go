package fleet

import (
	"context"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
)

// ProofLine is one forbidden thing that was tried (the first line of a proof is
// the one thing that must work).
type ProofLine struct {
	Try    string `json:"try"`
	Result string `json:"result"` // "refused: <reason>", "ALLOWED: …" or "UNKNOWN: …"
	OK     bool   `json:"ok"`
}

const (
	// proveParallel is how many connections are tried at once.
	proveParallel = 8
	proveTimeout  = "5s" // of a statement that is tried
)

// Prove tries, as the tenant's login role, every forbidden connection and grant
// (G2), on every database of its server. Every line must be OK. What is wrongly
// allowed is undone at once and reported. The error is about the trying alone.
func (f *Fleet) Prove(ctx context.Context, id catalog.TenantID) ([]ProofLine, error) {
	p, err := f.tenantProof(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("prove tenant: %w", err)
	}
	lines := []ProofLine{{Try: "connect to its own database", Result: "works, and it is the tenant's", OK: true}}
	conn, err := connect(ctx, p.cfg)
	if err == nil {
		defer closeConn(ctx, conn)
		err = tenantdb.Prove(ctx, conn, id)
	}
	if err != nil {
		lines[0].Result, lines[0].OK = "UNKNOWN: "+reason(ctx, err), false
		return lines, nil
	}
	lines = append(lines, p.connections(ctx)...)
	line, err := memberships(ctx, conn)
	if err != nil {
		return lines, fmt.Errorf("prove tenant: read memberships: %w", err)
	}
	lines = append(lines, line)
	for _, try := range p.forbidden() {
		line, err := try.run(ctx, conn)
		if err != nil {
			return lines, fmt.Errorf("prove tenant: %s: %w", try.what, err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// From Postgres 16 on, a membership may be without its rights (inherit false) and
// still let its holder become the role, or pass it on: only its being there tells.
const otherRoles = `
select rolname from pg_catalog.pg_roles
 where pg_catalog.pg_has_role(oid, 'member') and rolname <> all (array[session_user, $1])
 order by rolname`

// memberships looks for roles besides freehold_tenant that the tenant's role is in.
func memberships(ctx context.Context, conn *pgx.Conn) (ProofLine, error) {
	line := ProofLine{Try: "be in a role besides freehold_tenant", Result: "refused: it is in no other", OK: true}
	others, err := names(ctx, conn, otherRoles, migrations.RoleTenant)
	if err != nil {
		return line, err
	}
	if len(others) > 0 {
		line.Result, line.OK = "ALLOWED: it is in "+few(others), false
	}
	return line, nil
}

// proof is what a proof starts from.
type proof struct {
	own       string // database and role
	cfg       *pgx.ConnConfig
	databases []string // all others of the server
	adminUser string
	other     string // a role that must not get anything from this one
}

const (
	otherDatabases = `select datname from pg_database where datname <> $1 order by datname`
	otherRole      = `
select rolname from pg_roles
 where rolname ~ '^t_[0-9a-f]{32}$' and rolname <> $1 and rolcanlogin
 order by oid limit 1` // the newest may be of a creation that is being taken back
)

func (f *Fleet) tenantProof(ctx context.Context, id catalog.TenantID) (*proof, error) {
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return nil, err
	}
	if t.State != catalog.Active && t.State != catalog.Moving && t.State != catalog.Provisioning {
		return nil, fmt.Errorf("it is %s, and its role can't log in: %w", t.State, catalog.ErrConflict)
	}
	route, err := f.cat.Route(ctx, id)
	if err != nil {
		return nil, err
	}
	admin, err := f.admin(ctx, t.Server, maintenance)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, admin)
	return f.newProof(ctx, admin, t.Database, route.Config)
}

// newProof looks, as the admin, at what there is to be tried by the role that own
// is called after.
func (f *Fleet) newProof(ctx context.Context, admin *pgx.Conn, own string, login *pgx.ConnConfig) (p *proof, err error) {
	p = &proof{own: own, cfg: session(login), adminUser: admin.Config().User, other: migrations.RoleSealer}
	p.cfg.RuntimeParams["statement_timeout"] = proveTimeout
	if p.databases, err = names(ctx, admin, otherDatabases, own); err != nil {
		return nil, err
	}
	others, err := names(ctx, admin, otherRole, own)
	if err != nil {
		return nil, err
	}
	if len(others) > 0 {
		p.other = others[0]
	}
	return p, nil
}

var tenantDatabase = regexp.MustCompile(`^t_[0-9a-f]{32}$`)

// connections tries every other database of the server.
func (p *proof) connections(ctx context.Context) []ProofLine {
	lines := make([]ProofLine, len(p.databases))
	tenants := 0
	var group errgroup.Group
	group.SetLimit(proveParallel)
	for i, database := range p.databases {
		if tenantDatabase.MatchString(database) {
			tenants++
		}
		group.Go(func() error {
			lines[i] = p.connection(ctx, database)
			return nil
		})
	}
	_ = group.Wait() // failures are in the lines
	if tenants == 0 {
		lines = append(lines, ProofLine{
			Try: "connect to another tenant's database", Result: "none here: no other tenant on this server", OK: true,
		})
	}
	return lines
}

func (p *proof) connection(ctx context.Context, database string) ProofLine {
	line := ProofLine{Try: "connect to database " + database}
	cfg := p.cfg.Copy()
	cfg.Database = database
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		closeConn(ctx, conn)
		line.Result = "ALLOWED: connected"
		return line
	}
	switch state(err) {
	case stateDenied, "28000", "55000": // no CONNECT, no entry in pg_hba.conf, open to nobody
		line.Result, line.OK = "refused: "+message(err), true
	case "3D000":
		line.Result, line.OK = "refused: dropped meanwhile", true
	default:
		line.Result = unknown + reason(ctx, err)
	}
	return line
}
