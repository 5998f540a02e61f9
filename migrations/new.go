package migrations

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/pressly/goose/v3"
)

//go:embed new.sql
var skeleton []byte

var newName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,59}$`)

// New writes the next migration of an operator's folder, which it makes when it isn't
// there: a commented skeleton to be filled in. It returns the file's path, and never
// overwrites one.
func New(dir, name string) (path string, err error) {
	if !newName.MatchString(name) {
		return "", fmt.Errorf("name %q: only lower-case letters, digits and _, a letter first, 60 at most", name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // source code, for others too
		return "", fmt.Errorf("new migration: %w", err)
	}
	last, err := lastIn(dir)
	if err != nil {
		return "", fmt.Errorf("new migration: %w", err)
	}
	path = filepath.Join(dir, fmt.Sprintf("%05d_%s.sql", last+1, name))
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // source code, for others too
	if err != nil {
		return "", fmt.Errorf("new migration: %w", err)
	}
	_, err = file.Write(skeleton)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(path) // half of one helps nobody
		return "", fmt.Errorf("new migration: %w", err)
	}
	return path, nil
}

// lastIn is the highest number of a migration in a folder.
func lastIn(dir string) (last int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if version, err := goose.NumericComponent(entry.Name()); err == nil {
			last = max(last, version)
		}
	}
	return last, nil
}
