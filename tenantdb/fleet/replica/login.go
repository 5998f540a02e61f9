package replica

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"freehold/migrations"
)

const loginGranted = `select has_database_privilege($1::name, $2, 'connect') and pg_has_role($1::name, $3::name, 'member')`

const loginExists = `select exists (select from pg_roles where rolname = $1)`

// MakeLogin makes the role as which a target logs in to the source, for one
// replication: it has CONNECT on that database alone, where its sessions are
// freehold_owner. The verifier is what Postgres keeps of its password (RFC 5803). A role
// that is there gets the new password. conn may be in any database of the source's
// server; before Postgres 16 it has to be a superuser's.
//
// It has REPLICATION, since there is no decoding without, and so could copy the whole
// server where pg_hba.conf allows physical replication: its password is for the target
// alone, and the role goes when the replication does.
func MakeLogin(ctx context.Context, conn *pgx.Conn, name, verifier, database string) error {
	role, db := pgx.Identifier{name}.Sanitize(), pgx.Identifier{database}.Sanitize()
	var there bool
	if err := conn.QueryRow(ctx, loginExists, name).Scan(&there); err != nil {
		return fmt.Errorf("make login role: %w", err)
	}
	verb := "create"
	if there {
		verb = "alter"
	}
	err := hushed(ctx, conn, func(tx pgx.Tx) error {
		for _, statement := range []string{
			verb + " role " + role + " login replication noinherit password " + literal(verifier),
			// Not inherited: who inherits from the owner may connect to whatever that owns.
			"grant " + migrations.RoleOwner + " to " + role,
			"grant connect on database " + db + " to " + role,
			"alter role " + role + " in database " + db + " set role = " + migrations.RoleOwner,
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		// GRANT only warns when it did nothing.
		var granted bool
		if err := tx.QueryRow(ctx, loginGranted, name, database, migrations.RoleOwner).Scan(&granted); err != nil || granted {
			return err
		}
		return fmt.Errorf("it can't be given CONNECT on database %s: %w", database, ErrUnfit)
	})
	return wrap("make login role", err)
}

// literal is a string in SQL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

const selectGrants = `
select d.datname::text
  from pg_database d, aclexplode(d.datacl) a
  join pg_roles r on r.oid = a.grantee
 where r.rolname = $1`

const endSessions = `select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1`

// DropLogin ends the role's sessions and drops it; one that isn't there is dropped.
// conn is that of who made it, in any database of the server.
func DropLogin(ctx context.Context, conn *pgx.Conn, name string) error {
	var there bool
	if err := conn.QueryRow(ctx, loginExists, name).Scan(&there); err != nil || !there {
		return wrap("drop login role", err)
	}
	role := pgx.Identifier{name}.Sanitize()
	// Whose sessions are to be ended has to be one's own role, for who is no superuser.
	for _, statement := range []string{"alter role " + role + " nologin", "grant " + role + " to current_user"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return wrap("drop login role", err)
		}
	}
	err := await(ctx, func() (bool, error) {
		var ended int
		err := conn.QueryRow(ctx, endSessions, name).Scan(&ended)
		return ended == 0, err
	})
	if err != nil {
		return wrap("end sessions of login role", err)
	}
	rows, _ := conn.Query(ctx, selectGrants, name)
	databases, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return wrap("drop login role", err)
	}
	for _, d := range databases {
		if _, err := conn.Exec(ctx, "revoke all on database "+pgx.Identifier{d}.Sanitize()+" from "+role); err != nil {
			return wrap("drop login role", err)
		}
	}
	_, err = conn.Exec(ctx, "drop role if exists "+role)
	return wrap("drop login role", err)
}
