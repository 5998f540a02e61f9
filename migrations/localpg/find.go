package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The major versions of Postgres that Freehold runs on.
const (
	MinMajor = 15
	MaxMajor = 18
)

// ErrNotFound says that this machine has no usable Postgres. The error that
// wraps it names the places looked at, and why what was found there won't do.
var ErrNotFound = errors.New("no usable Postgres found")

// Binaries are the programs of one installed Postgres.
type Binaries struct {
	Dir     string // the folder with initdb, postgres and the others; no symbolic links
	Version string // as postgres states it: "15.18", "18.4"
	Major   int
}

// Path is the path of one program, such as "psql".
func (b Binaries) Path(program string) string { return filepath.Join(b.Dir, program) }

// distributions are the folders that packages of Postgres use. Those of one
// pattern are tried newest version first.
var distributions = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                   // PGDG on Red Hat
	"/usr/lib/postgresql*/bin",           // SUSE
	"/usr/libexec/postgresql*",           // Alpine
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew, ARM
	"/usr/local/opt/postgresql@*/bin",    // Homebrew, Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/opt/local/lib/postgresql*/bin", // MacPorts
	"/usr/local/pgsql/bin",           // built from source
}

// Find returns the Postgres to use: the one in FREEHOLD_PG_BIN, else the first
// on PATH, else the newest in the distributions' usual folders; in each case
// of a supported version, with the server's programs and those in need ("psql",
// "pg_dump"). With FREEHOLD_PG_BIN set nothing else is tried. The error is
// ErrNotFound, wrapped.
func Find(need ...string) (Binaries, error) { return find(0, need) }

// find is Find for one major version, or any when major is 0.
func find(major int, need []string) (Binaries, error) {
	who, err := serverAccount()
	if err != nil {
		return Binaries{}, err
	}
	dirs, explicit := candidates()
	var seen []string
	for _, dir := range dirs {
		b, err := inspect(dir, need, who)
		if err == nil && major != 0 && b.Major != major {
			err = fmt.Errorf("is version %s, wanted %d", b.Version, major)
		}
		if err == nil {
			return b, nil
		}
		seen = append(seen, fmt.Sprintf("%s %v", dir, err))
	}
	if explicit {
		return Binaries{}, fmt.Errorf("%w: FREEHOLD_PG_BIN: %s", ErrNotFound, strings.Join(seen, "; "))
	}
	if len(seen) == 0 {
		seen = []string{"nothing there"}
	}
	return Binaries{}, fmt.Errorf("%w (versions %d to %d): looked on PATH and in %s: %s; FREEHOLD_PG_BIN can name the folder",
		ErrNotFound, MinMajor, MaxMajor, strings.Join(distributions, ", "), strings.Join(seen, "; "))
}

// candidates lists the folders to inspect, best first. explicit tells that the
// operator chose the only one.
func candidates() (dirs []string, explicit bool) {
	if dir := os.Getenv("FREEHOLD_PG_BIN"); dir != "" {
		return []string{resolve(dir)}, true
	}
	add := func(dir string) {
		if dir = resolve(dir); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		// The link itself is followed, not only its folder: /usr/local/bin/postgres
		// has its siblings where it points to. And postgres, not psql: Debian's
		// /usr/bin/psql is a wrapper far from the others.
		program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
		if err == nil && filepath.IsAbs(program) {
			add(filepath.Dir(program))
		}
	}
	for _, dir := range installed() {
		add(dir)
	}
	return dirs, false
}

// installed lists the distributions' folders that are there.
func installed() (dirs []string) {
	for _, pattern := range distributions {
		found, _ := filepath.Glob(pattern) // the patterns are constant and well-formed
		slices.SortFunc(found, func(a, b string) int { return folderVersion(b) - folderVersion(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

func resolve(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return dir
}

// folderVersion is the first number in a folder's name: 17 for
// /usr/lib/postgresql/17/bin, 0 without one.
func folderVersion(dir string) int {
	start := strings.IndexAny(dir, "0123456789")
	if start < 0 {
		return 0
	}
	return leadingNumber(dir[start:])
}

func leadingNumber(s string) int {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, _ := strconv.Atoi(s[:end])
	return n
}

// inspect checks one folder. Its error continues a sentence that begins with
// the folder's name.
func inspect(dir string, need []string, who *account) (Binaries, error) {
	for _, program := range append([]string{"postgres", "initdb"}, need...) {
		if err := executable(filepath.Join(dir, program)); err != nil {
			return Binaries{}, err
		}
	}
	version, err := askVersion(filepath.Join(dir, "postgres"), who)
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{Dir: dir, Version: version, Major: leadingNumber(version)}
	if b.Major < MinMajor || b.Major > MaxMajor {
		return Binaries{}, fmt.Errorf("is version %s, supported are %d to %d", version, MinMajor, MaxMajor)
	}
	return b, nil
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("has no %s", filepath.Base(path))
	}
	return nil
}

// askVersion runs a program as the account that it will have, so that a folder
// which that account can't reach shows here.
func askVersion(path string, who *account) (string, error) {
	// A wrapper script that hangs must not hang Find, which has no context.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = environment()
	cmd.Dir = "/"
	cmd.SysProcAttr = who.attributes()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("can't be run as %s: %w", who, err)
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-1)"
	_, rest, ok := strings.Cut(string(out), "(PostgreSQL) ")
	if fields := strings.Fields(rest); ok && len(fields) > 0 {
		return fields[0], nil
	}
	return "", errors.New("doesn't tell its version")
}
