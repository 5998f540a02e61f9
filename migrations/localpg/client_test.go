package localpg_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freehold/migrations/localpg"
	"freehold/migrations/pgtest"
)

// The tests here change the environment, so none of them is parallel.

// client is a folder with psql of one version, and nothing of a server.
func client(t *testing.T, version string) string {
	t.Helper()
	dir := pgtest.TempDir(t)
	program(t, dir, "psql", "echo 'psql (PostgreSQL) "+version+" (Test 1)'")
	return dir
}

func TestFindClient(t *testing.T) {
	psql16, psql18, psql17 := client(t, "16.9"), client(t, "18.4"), client(t, "17.2")
	broken := pgtest.TempDir(t)
	program(t, broken, "psql", "exit 1")
	// As Debian has it: the real programs are elsewhere.
	wrapper := t.TempDir()
	program(t, wrapper, "pg_wrapper", "echo 'psql (PostgreSQL) 18.9'")
	if err := os.Symlink("pg_wrapper", filepath.Join(wrapper, "psql")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bin    string
		path   []string
		server int
		want   string
	}{
		"the first that is new enough": {path: []string{psql16, psql18, psql17}, server: 17, want: psql18},
		"the same version":             {path: []string{psql17, psql18}, server: 17, want: psql17},
		"any":                          {path: []string{psql16, psql18}, want: psql16},
		"newest of too old ones":       {path: []string{psql16, psql17}, server: 99, want: psql17},
		"broken passed over":           {path: []string{broken, psql17}, server: 17, want: psql17},
		"a wrapper last":               {path: []string{wrapper, psql18}, server: 18, want: psql18},
		"the operator's choice":        {bin: psql16, path: []string{psql18}, server: 18, want: psql16},
		"not where told":               {bin: t.TempDir(), path: []string{psql18}, server: 18, want: psql18},
		"broken where told":            {bin: broken, path: []string{psql18}, server: 18, want: psql18},
	} {
		t.Setenv("FREEHOLD_PG_BIN", c.bin)
		t.Setenv("PATH", strings.Join(c.path, ":"))
		got, err := localpg.FindClient("psql", c.server)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// This machine's own may be newer than all of these.
		if dir := filepath.Dir(got.Path); dir != c.want && c.server != 99 {
			t.Errorf("%s: found %+v, want one in %s", name, got, c.want)
		}
		if !strings.HasPrefix(got.Version, "1") || got.Major < 15 {
			t.Errorf("%s: found %+v", name, got)
		}
	}
}

func TestFindClientNowhere(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FREEHOLD_PG_BIN", dir)
	_, err := localpg.FindClient("freehold_no_such_program", 0)
	if !errors.Is(err, localpg.ErrNotFound) || !strings.Contains(err.Error(), dir) ||
		!strings.Contains(err.Error(), "no freehold_no_such_program") {
		t.Errorf("error = %v", err)
	}
}
