package migrations

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// The group roles. None can log in or has any right of its own.
const (
	RoleAPI     = "freehold_api"     // tenant-facing code in the catalog, bound by row-level security
	RoleAuth    = "freehold_auth"    // owns the look-up of a key before its tenant is known
	RoleCatalog = "freehold_catalog" // our own writers, caches and workers in the catalog
	RoleOwner   = "freehold_owner"   // owns tenants' databases and what Freehold keeps there
	RoleTenant  = "freehold_tenant"  // what every tenant's login role may do in its database
	RoleSealer  = "freehold_sealer"  // writes the seals of audit logs
)

// ErrUnsafeRole says that a role bears the name of one of ours and has rights
// that ours must not have: to log in, to bypass row-level security, those of
// another role that it belongs to, and so on.
var ErrUnsafeRole = errors.New("role has attributes, or belongs to a role, that a Freehold group must not")

// ErrNotGranted says that a role is there and that the current user can't get
// into it, or can't pass it on: somebody else made it. The error that wraps it
// has the statement with which a superuser mends that.
var ErrNotGranted = errors.New("role isn't ours to use")

// EnsureCatalogRoles makes the groups that the catalog's schema grants to and
// lets the current user become each of them. Roles belong to a whole server
// and any number of catalogs may share one, so it may run many times, and by
// several processes at once. The user needs CREATEROLE.
func EnsureCatalogRoles(ctx context.Context, conn *pgx.Conn) error {
	return ensureRoles(ctx, conn, RoleAPI, RoleAuth, RoleCatalog)
}

// EnsureServerRoles is the same for a server that holds tenants' databases.
// The current user can then `set role freehold_owner`, create databases for
// it, and grant freehold_tenant to the roles of tenants.
func EnsureServerRoles(ctx context.Context, conn *pgx.Conn) error {
	return ensureRoles(ctx, conn, RoleOwner, RoleTenant, RoleSealer)
}

func ensureRoles(ctx context.Context, conn *pgx.Conn, roles ...string) error {
	for _, role := range roles {
		attempt := func() error { return ensureRole(ctx, conn, role) }
		err := retry(ctx, attempt)
		for try := 1; try <= staleTries && errors.Is(err, ErrNotGranted); try++ {
			forgetMemberships(ctx, conn)
			err = retry(ctx, attempt)
		}
		if err != nil {
			return fmt.Errorf("ensure role %s: %w", role, err)
		}
	}
	return nil
}

// Roles are rows of tables that all databases share, and Postgres doesn't queue
// those who change them: of two at once, one gets an error and has but to look
// again. An advisory lock wouldn't help, it holds within one database only.
const roleTries = 50

func retry(ctx context.Context, attempt func() error) error {
	for try := 1; ; try++ {
		err := attempt()
		if try == roleTries || !is(err, duplicateObject, uniqueViolation, undefinedObject, internalError) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(time.Duration(1+rand.IntN(20)) * time.Millisecond): //nolint:gosec // not a secret
		}
	}
}

// A session keeps a list of the roles that it is in. When another session changes
// memberships just as the list is made, it is kept out of date, until the next
// change: so it was seen on 16 to 18, whose rules depend on it. ErrNotGranted is
// believed when it comes again with a new list.
const staleTries = 5

// forgetMemberships makes the session read its memberships anew: it does so after
// each change of its own, also one that was taken back.
func forgetMemberships(ctx context.Context, conn *pgx.Conn) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return // the next attempt meets the same and tells
	}
	_, _ = tx.Exec(ctx, "create role freehold_never nologin") // who may not, has nothing to forget
	_ = tx.Rollback(ctx)
}

const selectRole = `
select rolcanlogin or rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls
       or exists (select from pg_auth_members m where m.member = r.oid)
  from pg_roles r where rolname = $1`

func ensureRole(ctx context.Context, conn *pgx.Conn, role string) error {
	name := pgx.Identifier{role}.Sanitize()
	var unsafe bool
	err := conn.QueryRow(ctx, selectRole, role).Scan(&unsafe)
	if errors.Is(err, pgx.ErrNoRows) {
		_, err = conn.Exec(ctx, "create role "+name+" nologin")
	}
	if err != nil {
		return err
	}
	if unsafe {
		return ErrUnsafeRole
	}
	m, err := lookMembership(ctx, conn, role)
	if err != nil || m.Usable {
		return err
	}
	grant := "grant " + name + " to current_user"
	if m.Version >= 160000 {
		grant += " with inherit true, set true"
	}
	if _, err := conn.Exec(ctx, grant); err != nil && !is(err, insufficientPrivilege) {
		return err
	}
	// GRANT only warns when it did nothing, so its effect is looked at.
	if m, err = lookMembership(ctx, conn, role); err != nil || m.Usable {
		return err
	}
	return fmt.Errorf("%w; a superuser can change that: grant %s to %s with admin option (and %[3]s must have INHERIT)",
		ErrNotGranted, name, pgx.Identifier{m.User}.Sanitize())
}

// membership is how the current user stands to a role. From version 16 on, who
// makes a role may pass it on, but can neither become it nor has its rights
// until that is granted too; before, CREATEROLE was enough to pass on any.
type membership struct {
	User    string
	Version int
	Usable  bool
}

const selectMembership = `
select current_user::text as "user", v.n as version,
       case when v.n >= 160000
            then pg_has_role(current_user, $1, 'SET')
             and pg_has_role(current_user, $1, 'MEMBER WITH ADMIN OPTION')
            else pg_has_role(current_user, $1, 'MEMBER')
       end and pg_has_role(current_user, $1, 'USAGE') as usable
  from (select current_setting('server_version_num')::int) as v (n)`

func lookMembership(ctx context.Context, conn *pgx.Conn, role string) (membership, error) {
	rows, err := conn.Query(ctx, selectMembership, role)
	if err != nil {
		return membership{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[membership])
}
