package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
)

// dropDatabase drops a tenant's database, with whoever is still connected to it,
// and looks that it is gone; one that isn't there is dropped. One whose identity row
// can be read and names another tenant is tenantdb.ErrForeign. conn is the admin's,
// on database postgres of that server.
func (f *Fleet) dropDatabase(ctx context.Context, conn *pgx.Conn, server string, id catalog.TenantID) error {
	if there, err := exists(ctx, conn, databaseExists, id); err != nil || !there {
		return err
	}
	if whose, err := f.identity(ctx, server, id); err == nil && whose != id {
		return fmt.Errorf("database %s: %w", id.DatabaseName(), tenantdb.ErrForeign)
	}
	name := ident(id.DatabaseName())
	role, err := exists(ctx, conn, roleExists, id)
	if err != nil {
		return err
	}
	if role { // whose sessions may have to be ended
		if _, err := conn.Exec(ctx, "grant "+name+" to current_user"); err != nil {
			return translate(ctx, err)
		}
		defer func() {
			rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			_, _ = conn.Exec(rctx, "revoke "+name+" from current_user") // the role goes next
		}()
	}
	if err := dropForced(ctx, conn, id.DatabaseName()); err != nil {
		return translate(ctx, err)
	}
	return isGone(ctx, conn, databaseExists, "database", id)
}

// dropForced drops a database, if it is there, with whoever is in it. Who isn't a
// superuser may not end an autovacuum worker and is refused because of one; without
// force the server ends those by itself, and waits for them.
func dropForced(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "drop database if exists "+ident(name)+" with (force)")
	if state(err) == stateDenied {
		_, err = conn.Exec(ctx, "drop database if exists "+ident(name))
	}
	return err
}

// dropRole drops a tenant's role, behind its database, and looks that it is gone.
func (f *Fleet) dropRole(ctx context.Context, conn *pgx.Conn, id catalog.TenantID) error {
	if _, err := conn.Exec(ctx, "drop role if exists "+ident(id.DatabaseName())); err != nil {
		return translate(ctx, err)
	}
	return isGone(ctx, conn, roleExists, "role", id)
}

// dropPrefix removes all of a tenant's objects. Without a store there are none.
func (f *Fleet) dropPrefix(ctx context.Context, id catalog.TenantID) error {
	if f.blob == nil {
		return nil
	}
	return storeError(ctx, f.blob.Drop(ctx, id))
}

func exists(ctx context.Context, conn *pgx.Conn, sql string, id catalog.TenantID) (there bool, err error) {
	err = conn.QueryRow(ctx, sql, id.DatabaseName()).Scan(&there)
	return there, translate(ctx, err)
}

// isGone looks, because what a server says of its own success isn't asked.
func isGone(ctx context.Context, conn *pgx.Conn, sql, what string, id catalog.TenantID) error {
	there, err := exists(ctx, conn, sql, id)
	if err == nil && there {
		err = errors.New(what + " " + id.DatabaseName() + " is still there")
	}
	return err
}

// identity reads whose a database is.
func (f *Fleet) identity(ctx context.Context, server string, id catalog.TenantID) (whose catalog.TenantID, err error) {
	cfg, err := f.ownerConfig(ctx, server, id.DatabaseName())
	if err != nil {
		return whose, err
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return whose, err
	}
	defer closeConn(ctx, conn)
	err = conn.QueryRow(ctx, selectIdentity).Scan(&whose)
	return whose, translate(ctx, err)
}
