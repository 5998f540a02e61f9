// Package dump runs Postgres's own programs that copy a database, pg_dump and
// pg_restore, as streams. It knows no catalog and no tenant: how to log in is told
// to it as an environment, which only those two processes get. What they say may
// quote rows, so that only sentences that can't are passed on.
package dump

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"freehold/migrations/localpg"
)

// ErrFailed is returned when one of the programs ended with an error; the text says
// which one, and why when that can be shown.
var ErrFailed = errors.New("the copy could not be made")

// Tools are a pg_dump and a pg_restore that reads what it writes.
type Tools struct {
	Dump, Restore string // paths
	Major         int    // of pg_dump
}

// Find looks for tools that aren't older than servers of that major version, which
// would refuse them. localpg.ErrNotFound, with what was seen.
func Find(major int) (Tools, error) {
	dump, err := localpg.FindClient("pg_dump", major)
	if err != nil {
		return Tools{}, err
	}
	if dump.Major < major {
		return Tools{}, fmt.Errorf("%w: pg_dump %s is older than the server, Postgres %d", localpg.ErrNotFound, dump.Version, major)
	}
	beside := filepath.Join(filepath.Dir(dump.Path), "pg_restore")
	if _, err := os.Stat(beside); err == nil {
		return Tools{dump.Path, beside, dump.Major}, nil
	}
	restore, err := localpg.FindClient("pg_restore", dump.Major)
	if err == nil && restore.Major < dump.Major {
		err = fmt.Errorf("%w: pg_restore %s is older than pg_dump %s", localpg.ErrNotFound, restore.Version, dump.Version)
	}
	return Tools{dump.Path, restore.Path, dump.Major}, err
}

// Database is one, and how Postgres's programs log in to it: PGHOST, PGPORT,
// PGUSER, PGPASSWORD and the like.
type Database struct {
	Env  []string
	Name string
}
