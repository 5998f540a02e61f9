package fleet

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// SuperuserStatement is what a superuser runs once on a server before AddServer:
// it takes CONNECT on the databases of everybody from everybody, and gives the
// admin its own. others are further databases that aren't tenants'.
func SuperuserStatement(admin string, others ...string) string {
	closed := []string{ident(maintenance), ident("template1")}
	for _, db := range others {
		if q := ident(db); !slices.Contains(closed, q) {
			closed = append(closed, q)
		}
	}
	return fmt.Sprintf("revoke connect on database %s from public; grant connect on database %s to %s;",
		strings.Join(closed, ", "), ident(maintenance), ident(admin))
}

const (
	probePrefix = "freehold_probe_"
	// probeLife is how long a throw-away role can log in: one that outlives its
	// process is worthless and can be told from one in use.
	probeLife = time.Minute

	openLooks = 3
	openPause = 200 * time.Millisecond
)

const openDatabases = `
select datname from pg_database
 where datallowconn and has_database_privilege($1, oid, 'connect') and datname <> all ($2)
 order by datname`

// testStrangers makes a role that nothing was granted to and finds out where it
// could connect, by the server's own word and by trying. ErrServerOpen names the
// databases and the statement that closes them.
func testStrangers(ctx context.Context, conn *pgx.Conn, cfg *pgx.ConnConfig) (err error) {
	dropOldProbes(ctx, conn)
	name, password, err := createProbe(ctx, conn)
	if err != nil {
		return fmt.Errorf("make a throw-away role: %w", err)
	}
	defer func() {
		// The role goes also when the caller is gone.
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		if _, derr := conn.Exec(dctx, "drop role if exists "+ident(name)); derr != nil && err == nil {
			err = fmt.Errorf("drop the throw-away role: %w", translate(dctx, derr))
		}
	}()
	open, err := openTo(ctx, conn, name)
	if err != nil {
		return fmt.Errorf("read privileges: %w", err)
	}
	probe := session(cfg)
	probe.User, probe.Password = name, password
	stranger, err := pgx.ConnectConfig(ctx, probe)
	switch {
	case err == nil:
		closeConn(ctx, stranger)
		if !slices.Contains(open, maintenance) {
			open = append(open, maintenance)
		}
	case state(err) == stateNoPassword:
		return fmt.Errorf("%w: a role made by the admin can't log in: look at pg_hba.conf", ErrServerUnfit)
	case state(err) == "":
		return fmt.Errorf("log in as a throw-away role: %w", translate(ctx, err))
	}
	if len(open) > 0 {
		return fmt.Errorf("%w: %s; a superuser runs once: %s",
			ErrServerOpen, strings.Join(open, ", "), SuperuserStatement(cfg.User, open...))
	}
	return nil
}

// openTo lists where role can connect, besides its own databases. Whoever makes a database elsewhere on the
// server closes it a moment later, so it looks again before it believes.
func openTo(ctx context.Context, conn *pgx.Conn, role string, own ...string) (open []string, err error) {
	if own == nil {
		own = []string{}
	}
	for try := range openLooks {
		if try > 0 {
			if err := pause(ctx, openPause); err != nil {
				return nil, err
			}
		}
		if open, err = names(ctx, conn, openDatabases, role, own); err != nil || len(open) == 0 {
			return nil, err
		}
	}
	return open, nil
}

func createProbe(ctx context.Context, conn *pgx.Conn) (name, password string, err error) {
	random := make([]byte, 40)
	_, _ = rand.Read(random) // never fails
	name = probePrefix + hex.EncodeToString(random[:8])
	password = base64.RawURLEncoding.EncodeToString(random[8:])
	v, err := verifier(password)
	if err != nil {
		return "", "", err
	}
	// Utility statements take no parameters; a verifier is base64 with $ and colons.
	_, err = conn.Exec(ctx, fmt.Sprintf("create role %s login connection limit 1 password '%s' valid until '%s'",
		ident(name), v, time.Now().Add(probeLife).UTC().Format(time.RFC3339)))
	return name, password, translate(ctx, err)
}

const expiredProbes = `
select rolname from pg_roles
 where rolname ~ '^freehold_probe_[0-9a-f]{16}$' and rolvaliduntil < now()`

// dropOldProbes removes what killed runs left. It is only tidying: what it can't
// drop can't log in either.
func dropOldProbes(ctx context.Context, conn *pgx.Conn) {
	old, err := names(ctx, conn, expiredProbes)
	if err != nil {
		return
	}
	for _, name := range old {
		_, _ = conn.Exec(ctx, "drop role if exists "+ident(name))
	}
}

// names reads one column of names.
func names(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]string, error) {
	rows, _ := conn.Query(ctx, sql, args...) // its error is in rows
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, translate(ctx, err)
}
