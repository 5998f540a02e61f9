package migrations

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/pressly/goose/v3"
)

// script is what goose makes of a migration.
type script struct {
	up, down []string // statements
	noTx     bool
}

// mayLackTx is false when the migration surely runs in a transaction.
func mayLackTx(body string) bool {
	return strings.Contains(strings.ToUpper(body), "NO TRANSACTION")
}

// parseScript reads a migration as goose will. Its parser isn't exported, so it is let
// run the migration, up and down, on a database that writes down what it is told.
func parseScript(name, body string) (script, error) {
	heard := &recorder{}
	db := sql.OpenDB(heard)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, memory{name: body},
		goose.WithDisableVersioning(true),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return script{}, err
	}
	version, err := goose.NumericComponent(name)
	if err != nil {
		return script{}, err
	}
	var s script
	for _, up := range []bool{true, false} {
		*heard = recorder{}
		if _, err := provider.ApplyVersion(context.Background(), version, up); err != nil {
			return script{}, cause(err)
		}
		if up {
			s.up, s.noTx = heard.statements, !heard.begun
		} else {
			s.down = heard.statements
		}
	}
	return s, nil
}

// cause is the parser's own error: goose says twice around it which file that was.
func cause(err error) error {
	for range 2 {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
	}
	return err
}

// recorder is a database that does nothing.
type recorder struct {
	statements []string
	begun      bool
}

func (r *recorder) Connect(context.Context) (driver.Conn, error) { return r, nil }
func (r *recorder) Driver() driver.Driver                        { return r }
func (r *recorder) Open(string) (driver.Conn, error)             { return r, nil }
func (r *recorder) Begin() (driver.Tx, error)                    { return r, nil }
func (r *recorder) Prepare(string) (driver.Stmt, error)          { return nil, driver.ErrSkip }
func (r *recorder) Close() error                                 { return nil }
func (r *recorder) Commit() error                                { return nil }
func (r *recorder) Rollback() error                              { return nil }
func (r *recorder) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	r.begun = true
	return r, nil
}

func (r *recorder) ExecContext(_ context.Context, statement string, _ []driver.NamedValue) (driver.Result, error) {
	r.statements = append(r.statements, statement)
	return driver.RowsAffected(0), nil
}
