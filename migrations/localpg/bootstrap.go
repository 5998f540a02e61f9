package localpg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Bootstrap prepares the server as a superuser would prepare one in production,
// and no further: role admin (LOGIN, CREATEDB, CREATEROLE) with this password, and
// CONNECT on postgres and template1 taken from PUBLIC. Twice is fine; the password
// is set each time.
func (s *Server) Bootstrap(ctx context.Context, admin, password string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("bootstrap server: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	var exists bool
	const have = `select exists (select from pg_roles where rolname = $1)`
	if err := conn.QueryRow(ctx, have, admin).Scan(&exists); err != nil {
		return fmt.Errorf("bootstrap server: %w", err)
	}
	role := pgx.Identifier{admin}.Sanitize()
	var statements []string
	if !exists {
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
	for _, q := range statements {
		if _, err := conn.Exec(ctx, q); err != nil {
			return fmt.Errorf("bootstrap server: %w", err) // pgx's error holds no statement
		}
	}
	return nil
}
