package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A cluster with the roles and the templates is the same for all test processes of
// one `go test`, and takes longer to make than most packages' tests to run. So the
// first process makes it and keeps a copy, stopped, in the folder where go test has
// built these very programs. There it can't be older than what they hold, go test
// removes it at its end, and nobody else gets in. A program that runs elsewhere, as
// one of `go test -c` does, makes its own.
const (
	sharedName = "freehold-pgtest"
	buildName  = "go-build" // begins the name of go test's folder, whose subfolders hold the programs
)

// sharedFolder is where this run's cluster is or will be, "" without a place for it.
func sharedFolder() string {
	program, err := os.Executable()
	if err != nil {
		return ""
	}
	build := filepath.Dir(filepath.Dir(program))
	info, err := os.Stat(build)
	if err != nil || !strings.HasPrefix(filepath.Base(build), buildName) || info.Mode().Perm()&0o077 != 0 {
		return ""
	}
	return filepath.Join(build, sharedName)
}

// lockShared waits for the process that makes the cluster. The kernel unlocks for a
// process that is killed.
func lockShared(ctx context.Context, name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for the shared cluster: %w", ctx.Err()), file.Close())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// fill puts a copy of the cluster at from, made when there is none, into a data folder.
func fill(ctx context.Context, from, folder string) error {
	lock, err := lockShared(ctx, from+".lock")
	if err != nil {
		return err
	}
	if _, err = os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		err = makeShared(ctx, from)
	}
	// Nobody writes there any more, so copies are made side by side.
	if err = errors.Join(err, lock.Close()); err != nil {
		return fmt.Errorf("make the shared cluster: %w", err)
	}
	if err := copyTree(from, folder); err != nil {
		return fmt.Errorf("copy the shared cluster: %w", err)
	}
	return nil
}

// makeShared makes the cluster. It gets its name when it is whole; what a killed
// process left is removed by go test, or by sweep.
func makeShared(ctx context.Context, to string) (err error) {
	folder, err := os.MkdirTemp(base(), folderPrefix)
	if err != nil {
		return err
	}
	s := newServer(folder)
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := s.launch(ctx); err != nil {
		return err
	}
	err = s.prepare(ctx)
	if err == nil {
		err = errors.Join(s.catalog.ensure(s.catalog.build), s.tenant.ensure(s.tenant.build))
	}
	s.closePools()
	if err = errors.Join(err, s.pg.Stop(ctx)); err != nil {
		return err
	}
	// Where the server's account can't reach the first folder there is another, and
	// nothing that a copy could be put in place of.
	if s.pg.Folder() != folder {
		return errors.Join(os.Mkdir(to, 0o700), os.RemoveAll(s.pg.Folder()))
	}
	fresh := to + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.Mkdir(fresh, 0o700)); err != nil {
		return err
	}
	for _, name := range []string{"pgdata", "password", adminPassword} {
		if err := copyTree(filepath.Join(folder, name), filepath.Join(fresh, name)); err != nil {
			return err
		}
	}
	return os.Rename(fresh, to)
}

// copyTree copies files and folders with their modes and owners.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name := filepath.Join(to, strings.TrimPrefix(path, from))
		switch {
		case info.IsDir():
			if err := os.Mkdir(name, info.Mode().Perm()); path == from && errors.Is(err, fs.ErrExist) {
				return nil // a data folder that is there keeps its mode and owner
			} else if err != nil {
				return err
			}
		case info.Mode().IsRegular():
			if err := copyFile(path, name, info.Mode().Perm()); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			return os.Lchown(name, int(owner.Uid), int(owner.Gid))
		}
		return nil
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
