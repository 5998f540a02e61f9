package lint_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pressly/goose/v3"

	"freehold/migrations/lint"
)

// written is a database that writes down what it is told.
type written struct {
	statements []string
	begun      bool
}

func (w *written) Connect(context.Context) (driver.Conn, error) { return w, nil }
func (w *written) Driver() driver.Driver                        { return nil }
func (w *written) Prepare(string) (driver.Stmt, error)          { return nil, driver.ErrSkip }
func (w *written) Close() error                                 { return nil }
func (w *written) Commit() error                                { return nil }
func (w *written) Rollback() error                              { return nil }
func (w *written) Begin() (driver.Tx, error) {
	w.begun = true
	return w, nil
}

func (w *written) ExecContext(_ context.Context, statement string, _ []driver.NamedValue) (driver.Result, error) {
	w.statements = append(w.statements, statement)
	return driver.RowsAffected(0), nil
}

// byGoose is what goose sends for a migration.
func byGoose(t *testing.T, body string, up bool) (statements []string, noTx bool, err error) {
	t.Helper()
	heard := &written{}
	db := sql.OpenDB(heard)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db,
		fstest.MapFS{"00001_a.sql": {Data: []byte(body)}},
		goose.WithDisableVersioning(true), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	_, err = provider.ApplyVersion(t.Context(), 1, up)
	return heard.statements, !heard.begun, err
}

// same compares statements without the comments that goose keeps above some.
func same(goose, ours []string) bool {
	bare := func(statements []string) []string {
		var out []string
		for _, s := range statements {
			lines := strings.Split(s, "\n")
			for len(lines) > 0 {
				if first := strings.TrimSpace(lines[0]); first != "" && !strings.HasPrefix(first, "--") {
					break
				}
				lines = lines[1:]
			}
			out = append(out, strings.TrimSpace(strings.Join(lines, "\n")))
		}
		return out
	}
	return slices.Equal(bare(goose), bare(ours))
}

func compare(t *testing.T, body string) {
	t.Helper()
	up, down, noTx, ok := lint.Split(body)
	gooseUp, gooseNoTx, upErr := byGoose(t, body, true)
	gooseDown, _, downErr := byGoose(t, body, false)
	if !ok || upErr != nil || downErr != nil {
		if ok && (upErr != nil || downErr != nil) {
			t.Errorf("goose can't read what we can: %v, %v\n%s", upErr, downErr, body)
		}
		return
	}
	if !same(gooseUp, up) || !same(gooseDown, down) || len(gooseUp) > 0 && noTx != gooseNoTx {
		t.Errorf("goose sends\n%q\n%q %v\nwe read\n%q\n%q %v", gooseUp, gooseDown, gooseNoTx, up, down, noTx)
	}
}

var scripts = []string{
	"-- +goose Up\nselect 1;\n-- +goose Down\nselect 2;\n",
	"-- +goose NO TRANSACTION\r\n-- +goose up\r\n\r\nselect\r\n  1 -- one;\r\n  ; -- end\r\n",
	"-- +goose Up\n-- +goose StatementBegin\n\n-- a\nselect 1;\nselect 2;\n-- +goose StatementEnd\nselect 3;",
	"-- +goose Up\nselect 1; select 2;\n-- +goose Down\n",
	"-- +goose Up\nselect 1",
	"-- +goose Up\n-- +goose StatementBegin\nselect 1;\n",
	"-- +goose Up\n-- +goose StatementBegin\n-- +goose StatementEnd\nselect 1;\nselect 2;",
	" -- +goose Up\nselect 1;",
	"-- +goose Up\n-- +goose Sideways\nselect 1;",
	"select 1;\n-- +goose Up\n",
	"-- +goose Down\nselect 1;\n-- +goose Up\n",
	"",
}

// A migration is cut as goose cuts it.
func TestSplitLikeGoose(t *testing.T) {
	t.Parallel()
	for _, body := range scripts {
		compare(t, body)
	}
	files, err := filepath.Glob("testdata/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, string(body))
	}
	if up, down, noTx, ok := lint.Split(scripts[2]); len(up) != 2 || down != nil || noTx || !ok {
		t.Errorf("a block: %q %q %v %v", up, down, noTx, ok)
	}
	for _, bad := range scripts[4:] {
		if _, _, _, ok := lint.Split(bad); ok {
			t.Errorf("nothing is wrong with %q", bad)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, body := range scripts {
		f.Add(body)
	}
	f.Fuzz(compare)
}
