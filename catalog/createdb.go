package catalog

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// duplicateDatabase is the answer when another process made it first; the unique
// violation is the same, a moment earlier.
const duplicateDatabase = "42P04"

// openOrCreate connects to the catalog database, which it makes when the server
// has none of that name.
func openOrCreate(ctx context.Context, url string) (*pgx.Conn, error) {
	conn, err := connectAdmin(ctx, url)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != invalidCatalogName {
		return conn, wrap("migrate catalog", err)
	}
	if err := createDatabase(ctx, url); err != nil {
		return nil, err
	}
	conn, err = connectAdmin(ctx, url)
	return conn, wrap("migrate catalog", err)
}

func createDatabase(ctx context.Context, url string) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return wrap("create catalog database", err)
	}
	name := pgx.Identifier{cfg.Database}.Sanitize()
	cfg.Database = "postgres"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return wrap("create catalog database", err)
	}
	defer closeConn(ctx, conn)
	_, err = conn.Exec(ctx, "create database "+name)
	if err == nil {
		// At once, because who has got in stays in. That it was done is seen to later.
		_, _ = conn.Exec(ctx, "revoke connect, temporary on database "+name+" from public")
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == duplicateDatabase || pg.Code == uniqueViolation) {
		return nil
	}
	return wrap("create catalog database", err)
}
