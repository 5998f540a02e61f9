package pgtest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const (
	folderPrefix = "freehold-pgtest-"
	memory       = "/dev/shm"
	memoryNeeded = 4 << 30
)

// TempDir is a folder for a Postgres of the test's own, removed after the test.
// Unlike t.TempDir's, other accounts can reach it, and it lies in memory when
// there is plenty: a cluster is a thousand small files, and making and removing
// them takes several times longer on a disk.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(base(), folderPrefix)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return dir
}

// base is the folder for data folders.
func base() string {
	var disk syscall.Statfs_t
	if syscall.Statfs(memory, &disk) == nil && int64(disk.Bavail) >= memoryNeeded/int64(disk.Bsize) { //nolint:unconvert // other systems have other types here
		return memory
	}
	return os.TempDir()
}

// sweep removes the folders of test processes that were killed. One in use is
// locked by its server; a young one may be about to be.
func sweep() {
	for _, dir := range []string{os.TempDir(), memory} {
		folders, _ := filepath.Glob(filepath.Join(dir, folderPrefix+"*")) // the pattern is well-formed
		for _, folder := range folders {
			info, err := os.Stat(folder)
			if err == nil && time.Since(info.ModTime()) > 10*time.Minute && unlocked(filepath.Join(folder, "lock")) {
				_ = os.RemoveAll(folder) // another process may be sweeping too
			}
		}
	}
}

func unlocked(name string) bool {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
