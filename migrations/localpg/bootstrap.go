package localpg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Bootstrap prepares the server as a superuser would prepare one in production,
// and no further: role admin (LOGIN, CREATEDB, CREATEROLE) with this password,
// CONNECT on postgres and template1 taken from PUBLIC, and database catalog, owned
// by admin and closed to PUBLIC. Twice is fine; the password is set each time.
func (s *Server) Bootstrap(ctx context.Context, admin, password, catalog string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("bootstrap server: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	var haveRole, haveCatalog bool
	const have = `select exists (select from pg_roles where rolname = $1), exists (select from pg_database where datname = $2)`
	if err := conn.QueryRow(ctx, have, admin, catalog).Scan(&haveRole, &haveCatalog); err != nil {
		return fmt.Errorf("bootstrap server: %w", err)
	}
	role, db := pgx.Identifier{admin}.Sanitize(), pgx.Identifier{catalog}.Sanitize()
	var statements []string
	if !haveRole {
		statements = append(statements, "create role "+role)
	}
	// DDL takes no parameters: the server itself quotes the password.
	var literal string
	if err := conn.QueryRow(ctx, `select quote_literal($1)`, password).Scan(&literal); err != nil {
		return fmt.Errorf("bootstrap server: %w", err)
	}
	statements = append(statements,
		"alter role "+role+" login createdb createrole nosuperuser password "+literal,
		"revoke connect on database postgres, template1 from public",
		"grant connect on database postgres to "+role)
	if !haveCatalog {
		statements = append(statements, "create database "+db+" owner "+role)
	}
	statements = append(statements, "revoke all on database "+db+" from public")
	for _, q := range statements {
		if _, err := conn.Exec(ctx, q); err != nil {
			return fmt.Errorf("bootstrap server: %w", err) // pgx's error holds no statement
		}
	}
	return nil
}
