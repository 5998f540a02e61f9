package migrations

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pressly/goose/v3"
)

// Product is the operator's own stream, for the product's tables in the tenants'
// databases. Its files are given, since they belong to no binary; there may be none.
// Like Tenant's, they are applied with role=freehold_owner.
func Product(files []File) Set {
	bodies := memory{}
	for _, file := range files {
		bodies[file.Name] = file.Body
	}
	return Set{Name: "product", FS: bodies, Table: "product.schema_version", optional: true}
}

// largest is how large a file of an operator may be: the catalog keeps each.
const largest = 1 << 20

var fileName = regexp.MustCompile(`^[0-9]{5,18}_[a-z0-9_]+\.sql$`)

// ReadDir reads an operator's folder of migrations as the set of Product. Files of
// other kinds than .sql are left alone. The error names every mistake in it.
func ReadDir(dir string) (Set, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Set{}, fmt.Errorf("read migrations: %w", err)
	}
	var read []File
	var wrong []error
	for _, entry := range entries {
		name := entry.Name()
		if !strings.EqualFold(filepath.Ext(name), ".sql") {
			continue
		}
		file, err := readFile(dir, name)
		if err != nil {
			wrong = append(wrong, err)
		}
		read = append(read, file)
	}
	set, err := product(read, wrong)
	if err != nil {
		return set, fmt.Errorf("migrations in %s: %w", dir, err)
	}
	return set, nil
}

// Given is the set of Product of files that come from elsewhere than a folder: of
// each its name and body count. The error names every mistake in them.
func Given(files []File) (Set, error) {
	var read []File
	var wrong []error
	for _, f := range files {
		file, err := checked(f.Name, f.Body)
		if err != nil {
			wrong = append(wrong, err)
		}
		read = append(read, file)
	}
	return product(read, wrong)
}

// product is the set of files that were read, of which some may be wrong. The version
// is 0 where a name has none.
func product(files []File, wrong []error) (Set, error) {
	names := map[int64]string{}
	for _, file := range files {
		if file.Version == 0 {
			continue
		}
		if other, taken := names[file.Version]; taken {
			wrong = append(wrong, fmt.Errorf("%s: has the number of %s", file.Name, other))
		}
		names[file.Version] = file.Name
	}
	if wrong != nil {
		return Set{}, errors.Join(wrong...)
	}
	return Product(files), nil
}

// readFile reads one file of a folder. The error names it; the version is 0 where the
// name has none.
func readFile(dir, name string) (File, error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return File{Name: name}, fmt.Errorf("%s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return File{Name: name}, fmt.Errorf("%s: is not a file", name)
	}
	if info.Size() > largest {
		return File{Name: name}, fmt.Errorf("%s: is larger than 1 MB", name)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return File{Name: name}, fmt.Errorf("%s: %w", name, err)
	}
	return checked(name, string(raw))
}

// checked is a file of the product, by its name and text.
func checked(name, body string) (File, error) {
	file := File{Name: name}
	version, err := goose.NumericComponent(name)
	if err != nil || !fileName.MatchString(name) {
		return file, fmt.Errorf("%s: is not named NNNNN_name.sql, in lower case", name)
	}
	file.Version = version
	if len(body) > largest {
		return file, fmt.Errorf("%s: is larger than 1 MB", name)
	}
	if !utf8.ValidString(body) || strings.ContainsRune(body, 0) {
		return file, fmt.Errorf("%s: is not UTF-8 text", name)
	}
	if usesEnvironment(body) {
		// What is run would depend on the machine, and not be what was summed and kept.
		return file, fmt.Errorf("%s: ENVSUB is not supported", name)
	}
	file, sql, err := newFile(numbered{version, name}, body)
	if err == nil && len(sql.up) == 0 {
		err = fmt.Errorf("%s: has no statement in its Up section", name)
	}
	return file, err
}

var envsub = regexp.MustCompile(`(?im)^\s*--.*\+goose.*ENVSUB`)

func usesEnvironment(body string) bool { return envsub.MatchString(body) }

// memory is a folder of files, by name.
type memory map[string]string

func (m memory) Open(name string) (fs.File, error) {
	body, found := m[name]
	if !found {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memoryFile{Reader: strings.NewReader(body), entry: entry{name: name, size: len(body)}}, nil
}

// ReadDir lists the files, as fs.Glob wants it: sorted.
func (m memory) ReadDir(string) ([]fs.DirEntry, error) {
	list := make([]fs.DirEntry, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, entry{name: name, size: len(m[name])})
	}
	return list, nil
}

type memoryFile struct {
	*strings.Reader
	entry entry
}

func (f *memoryFile) Stat() (fs.FileInfo, error) { return f.entry, nil }
func (f *memoryFile) Close() error               { return nil }

type entry struct {
	name string
	size int
}

func (e entry) Name() string               { return e.name }
func (e entry) Size() int64                { return int64(e.size) }
func (e entry) Mode() fs.FileMode          { return 0o444 }
func (e entry) Type() fs.FileMode          { return 0 }
func (e entry) ModTime() time.Time         { return time.Time{} }
func (e entry) IsDir() bool                { return false }
func (e entry) Sys() any                   { return nil }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
