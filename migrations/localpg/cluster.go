package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// clusterMajor is the version that made the cluster in dir, 0 for none.
func clusterMajor(dir string) (int, error) {
	content, err := os.ReadFile(filepath.Join(dir, "pgdata", "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read cluster's version: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("read cluster's version: %w", err)
	}
	return major, nil
}

// initialize makes the cluster. It appears under its name when it is complete,
// so that one that was interrupted is simply made again.
func (f *folder) initialize(ctx context.Context, bin Binaries, sync bool) error {
	password, err := f.password()
	if err != nil {
		return fmt.Errorf("keep superuser's password: %w", err)
	}
	// A folder that initdb, as its own account, may fill.
	work := f.path("pgdata.new")
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("clear interrupted cluster: %w", err)
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return fmt.Errorf("make cluster's folder: %w", err)
	}
	if err := f.who.own(work); err != nil {
		return fmt.Errorf("make cluster's folder: %w", err)
	}
	// initdb opens the file as its own account, so a pipe of ours won't do.
	secret := f.path("password.initdb")
	defer func() { _ = os.Remove(secret) }()
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("hand over password: %w", err)
	}
	if err := f.who.own(secret); err != nil {
		return fmt.Errorf("hand over password: %w", err)
	}
	locale := "C"
	if runtime.GOOS == "linux" {
		locale = "C.UTF-8"
	}
	args := []string{
		"-D", work, "-U", superuser, "--pwfile", secret, "-A", "scram-sha-256",
		"-E", "UTF8", "--locale", locale, "--data-checksums",
	}
	if !sync {
		args = append(args, "--no-sync")
	}
	if err := f.run(ctx, bin, "initdb", args...); err != nil {
		return err
	}
	if err := os.Rename(work, f.pgdata()); err != nil {
		return fmt.Errorf("name cluster: %w", err)
	}
	return nil
}

// run runs one of the programs to its end. It dies with us, and when ctx ends.
func (f *folder) run(ctx context.Context, bin Binaries, program string, args ...string) error {
	var output strings.Builder
	cmd := exec.Command(bin.Path(program), args...)
	cmd.Env = environment()
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.ExtraFiles = []*os.File{f.lock} // see acquire: children of an initdb that was killed count too
	cmd.SysProcAttr = f.who.attributes()
	p, err := spawn(cmd, syscall.SIGKILL)
	if err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.killGroup()
		<-p.done
		return fmt.Errorf("%s: %w", program, ctx.Err())
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w: %s", program, p.err, lastLines(output.String(), 5))
	}
	return nil
}

// lastLines are the last n lines of a text, as one line.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// clearStalePID removes the postmaster.pid that a killed server left, whose
// number may be any other process's by now. The lock tells that no server of
// ours runs here; one that somebody else started on the folder is looked for.
func (f *folder) clearStalePID() error {
	name := filepath.Join(f.pgdata(), "postmaster.pid")
	content, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read postmaster.pid: %w", err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	if runs, known := runsHere(leadingNumber(first), f.pgdata()); runs {
		return fmt.Errorf("%w: %s", ErrInUse, f.dir)
	} else if !known {
		return nil // Postgres makes its own check, and is careful
	}
	if err := os.Remove(name); err != nil {
		return fmt.Errorf("remove stale postmaster.pid: %w", err)
	}
	return nil
}

// runsHere tells whether process pid is a server on the cluster, which is then
// its working folder. known is false where a process's folder can't be seen.
func runsHere(pid int, pgdata string) (runs, known bool) {
	if pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false, true
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	switch {
	case err == nil:
		return cwd == resolve(pgdata), true
	case errors.Is(err, fs.ErrPermission):
		return false, true // another user's process can't be a server on our files
	default:
		return false, false
	}
}
