// Package migrations holds the schemas of Freehold's own databases, embedded
// and numbered, reads the product's own from a folder, and brings a database to the
// newest of them, or back: the catalog's and a tenant's. It also makes the cluster-wide group roles that those schemas
// grant to.
//
// It knows one connection at a time. Which databases there are, in what order
// they are visited and what is recorded about it are its callers' business.
package migrations

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"
)

// Only .sql files: goose changes shared values when Go files are among them.
//
//go:embed catalog/*.sql tenant/*.sql
var embedded embed.FS

// Set is one stream of migrations and the table that counts them.
type Set struct {
	Name  string
	FS    fs.FS  // numbered .sql files at its root
	Table string // of versions, with its schema; Apply makes both

	optional bool // it may have no files
}

// Catalog is the schema of the catalog database.
func Catalog() Set {
	return Set{Name: "catalog", FS: sub("catalog"), Table: "public.freehold_version"}
}

// Tenant is Freehold's schema in a tenant's database. It is applied on a
// connection with role=freehold_owner, who then owns everything in it.
func Tenant() Set {
	return Set{Name: "tenant", FS: sub("tenant"), Table: "freehold.schema_version"}
}

func sub(dir string) fs.FS {
	found, err := fs.Sub(embedded, dir)
	if err != nil {
		panic(err) // the names are constants, and valid
	}
	return found
}

// With returns the set with the .sql files at the root of extra added to it;
// where both have a file of one name, extra's is taken.
func (s Set) With(extra fs.FS) Set {
	s.FS = overlay{extra, s.FS}
	return s
}

// Latest is the highest version in the set. A set without migrations is an error,
// but for the product's, which then has version 0.
func (s Set) Latest() (int64, error) {
	all, err := s.list()
	if err != nil || len(all) == 0 {
		return 0, err
	}
	return all[len(all)-1].version, nil
}

// numbered is the name of a migration's file and the number in it.
type numbered struct {
	version int64
	name    string
}

// list names the set's migrations, in order. It reads none of them.
func (s Set) list() ([]numbered, error) {
	files, err := fs.Glob(s.FS, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list %s migrations: %w", s.Name, err)
	}
	if len(files) == 0 && !s.optional {
		return nil, fmt.Errorf("list %s migrations: there are none", s.Name)
	}
	all := make([]numbered, 0, len(files))
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, fmt.Errorf("number of %s migration %s: %w", s.Name, file, err)
		}
		all = append(all, numbered{version, file})
	}
	slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(a.version, b.version) })
	for i := 1; i < len(all); i++ {
		if all[i].version == all[i-1].version {
			return nil, fmt.Errorf("%s migrations %s and %s have one number", s.Name, all[i-1].name, all[i].name)
		}
	}
	return all, nil
}

// overlay is a stack of file systems, the uppermost first. Its folders are
// merged by ReadDir alone, which is how fs.Glob reads them.
type overlay []fs.FS

func (o overlay) Open(name string) (fs.File, error) {
	for _, layer := range o {
		file, err := layer.Open(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadDir merges the layers' folders of one name, as fs.Glob and fs.ReadDir
// want them: sorted, each name once.
func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	merged := map[string]fs.DirEntry{}
	found := false
	for _, layer := range slices.Backward(o) {
		entries, err := fs.ReadDir(layer, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = true
		for _, entry := range entries {
			merged[entry.Name()] = entry
		}
	}
	if !found {
		return nil, &fs.PathError{Op: "readdir", Path: path.Clean(name), Err: fs.ErrNotExist}
	}
	entries := slices.Collect(maps.Values(merged))
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}
