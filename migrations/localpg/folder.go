package localpg

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrInUse says that another process runs, or still stops, a server on this
// data folder.
var ErrInUse = errors.New("data folder is in use by another server")

// folder is one data folder, held by a lock:
//
//	pgdata/      the cluster, owned by the server's account
//	password     of the superuser, ours alone
//	port         the one last used
//	sockets      names the folder of the Unix socket
//	postgres.log
//	lock         held for as long as the server or we live
//	moved-to     names the folder to use instead of this one
type folder struct {
	dir  string
	who  *account
	lock *os.File
}

const (
	lockWait = 10 * time.Second // a server whose parent was killed ends within this
	poll     = 5 * time.Millisecond
	maxLog   = 16 << 20
)

// openFolder makes the folder where needed, and locks it. With the server
// running as another account, a folder that this account can't reach is
// replaced by one that it can, under elsewhere; notice gets one line that says
// so, and the choice is remembered.
func openFolder(ctx context.Context, dir string, who *account, bin Binaries, elsewhere []string, notice io.Writer) (*folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("resolve data folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	if moved := movedTo(dir); moved != "" {
		dir = moved
	} else if ok := reachable(ctx, dir, who, bin); ctx.Err() != nil {
		return nil, ctx.Err()
	} else if !ok {
		to, err := moveElsewhere(ctx, dir, who, bin, elsewhere)
		if err != nil {
			return nil, err
		}
		if notice != nil {
			_, _ = fmt.Fprintf(notice, "postgres: user %s can't reach %s; the cluster is in %s\n", who, dir, to)
		}
		dir = to
	}
	f := &folder{dir: dir, who: who}
	if err := f.acquire(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// movedTo is the folder chosen earlier instead of dir, if it is still there.
func movedTo(dir string) string {
	content, err := os.ReadFile(filepath.Join(dir, "moved-to"))
	if err != nil {
		return ""
	}
	moved := strings.TrimSpace(string(content))
	if info, err := os.Stat(moved); err != nil || !info.IsDir() {
		return ""
	}
	return moved
}

// reachable tells whether the account gets into dir, by going there as it:
// permissions, access lists and mount options all count. To that end it lets
// others pass through dir itself, which shows them no names.
func reachable(ctx context.Context, dir string, who *account, bin Binaries) bool {
	if who == nil {
		return true
	}
	probe := filepath.Join(dir, "probe")
	//nolint:gosec // others may pass through, and see no names
	if os.Chmod(dir, 0o711) != nil || os.MkdirAll(probe, 0o700) != nil {
		return false
	}
	defer func() { _ = os.Remove(probe) }()
	if who.own(probe) != nil {
		return false
	}
	cmd := exec.CommandContext(ctx, bin.Path("postgres"), "--version")
	cmd.Env = environment()
	cmd.Dir = probe // entered after the change of user
	cmd.SysProcAttr = who.attributes()
	return cmd.Run() == nil
}

func moveElsewhere(ctx context.Context, dir string, who *account, bin Binaries, elsewhere []string) (string, error) {
	for _, parent := range elsewhere {
		if os.Mkdir(parent, 0o700) == nil {
			_ = os.Chmod(parent, 0o711) //nolint:gosec // others may pass through; whether they can is looked at below
		}
		to, err := os.MkdirTemp(parent, "pg-")
		if err != nil {
			continue
		}
		if reachable(ctx, to, who, bin) {
			if err := os.WriteFile(filepath.Join(dir, "moved-to"), []byte(to+"\n"), 0o600); err != nil {
				return "", fmt.Errorf("note new data folder: %w", err)
			}
			return to, nil
		}
		_ = os.Remove(to)
	}
	return "", fmt.Errorf("user %s can reach neither %s nor a folder in %s",
		who, dir, strings.Join(elsewhere, ", "))
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *folder) pgdata() string { return f.path("pgdata") }

// acquire takes the lock. The server inherits the open file, so the lock
// outlives us for as long as any of its processes does: whoever holds it
// knows that no server of ours runs here, whatever postmaster.pid says.
func (f *folder) acquire(ctx context.Context) error {
	file, err := os.OpenFile(f.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			f.lock = file
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			_ = file.Close()
			return fmt.Errorf("lock data folder: %w", err)
		case time.Now().After(deadline):
			_ = file.Close()
			return fmt.Errorf("%w: %s", ErrInUse, f.dir)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return fmt.Errorf("%w: %s: %w", ErrInUse, f.dir, ctx.Err())
		case <-time.After(poll):
		}
	}
}

// release gives the lock back; the server must have ended.
func (f *folder) release() { _ = f.lock.Close() }

// read returns the content of a small file, or "" when there is none.
func (f *folder) read(name string) (string, error) {
	content, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(content)), err
}

// write replaces a small file, whole or not at all.
func (f *folder) write(name, content string) error {
	temp := f.path(name + ".new")
	if err := os.WriteFile(temp, []byte(content+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, f.path(name))
}

// password returns the superuser's, made at the first call.
func (f *folder) password() (string, error) {
	password, err := f.read("password")
	if err != nil || password != "" {
		return password, err
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails, by its contract
	password = base64.RawURLEncoding.EncodeToString(random)
	return password, f.write("password", password)
}

// openLog opens the server's log for appending; one that has grown too long
// begins anew.
func (f *folder) openLog() (*os.File, error) {
	flags := os.O_CREATE | os.O_APPEND | os.O_WRONLY
	if info, err := os.Stat(f.path("postgres.log")); err == nil && info.Size() > maxLog {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(f.path("postgres.log"), flags, 0o600)
}

// sockets makes a folder for the Unix socket, whose whole path must not exceed
// 107 bytes, and takes away the one that a killed server left.
func (f *folder) sockets() (string, error) {
	if old, err := f.read("sockets"); err == nil {
		removeSockets(old)
	}
	dir, err := os.MkdirTemp("/tmp", socketPrefix)
	if err != nil {
		return "", err
	}
	if err := f.who.own(dir); err != nil {
		return "", err
	}
	return dir, f.write("sockets", dir)
}

const socketPrefix = "freehold-pg-"

func removeSockets(dir string) {
	if !strings.HasPrefix(dir, "/tmp/"+socketPrefix) || strings.Contains(dir, "..") {
		return
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".s.PGSQL.*"))
	for _, name := range left {
		_ = os.Remove(name)
	}
	_ = os.Remove(dir) // fails when something else is in there, which is then not ours
}
