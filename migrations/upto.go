package migrations

import (
	"io/fs"

	"github.com/pressly/goose/v3"
)

// UpTo returns the set without the migrations after version, as the release had
// it whose latest was that.
func (s Set) UpTo(version int64) Set {
	s.FS = until{s.FS, version}
	return s
}

// until is a file system without the migrations after a version.
type until struct {
	all     fs.FS
	version int64
}

func (u until) later(name string) bool {
	version, err := goose.NumericComponent(name)
	return err == nil && version > u.version
}

func (u until) Open(name string) (fs.File, error) {
	if u.later(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return u.all.Open(name)
}

// ReadDir lists what is left, as fs.Glob and fs.ReadDir want it: sorted.
func (u until) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(u.all, name)
	kept := entries[:0:0]
	for _, e := range entries {
		if !u.later(e.Name()) {
			kept = append(kept, e)
		}
	}
	return kept, err
}
