package localpg

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Client is one of Postgres's client programs.
type Client struct {
	Path    string
	Version string // as the program states it: "15.18"
	Major   int
}

// FindClient returns a client program ("psql", "pg_dump") for a server of the
// major version server: the one in FREEHOLD_PG_BIN when that folder has it, else
// the first on PATH or in the distributions' usual folders that is not older than
// the server, else the newest of them all. Whether an older one does is for the
// caller to say: psql sends queries to any server, pg_dump refuses a newer one.
// No server need be installed beside it. The error is ErrNotFound, wrapped.
func FindClient(program string, server int) (Client, error) {
	var (
		newest Client
		seen   []string
	)
	if dir := os.Getenv("FREEHOLD_PG_BIN"); dir != "" {
		c, err := inspectClient(filepath.Join(resolve(dir), program))
		if err == nil {
			return c, nil // the operator's choice
		}
		seen = append(seen, fmt.Sprintf("FREEHOLD_PG_BIN: %s %v", dir, err))
	}
	for _, path := range clients(program) {
		c, err := inspectClient(path)
		if err != nil {
			seen = append(seen, fmt.Sprintf("%s %v", filepath.Dir(path), err))
			continue
		}
		if c.Major >= server {
			return c, nil
		}
		if c.Major > newest.Major {
			newest = c
		}
	}
	if newest.Path != "" {
		return newest, nil
	}
	if len(seen) == 0 {
		seen = []string{"nothing there"}
	}
	return Client{}, fmt.Errorf("%w: no %s: looked on PATH and in %s: %s; FREEHOLD_PG_BIN can name the folder",
		ErrNotFound, program, strings.Join(distributions, ", "), strings.Join(seen, "; "))
}

// clients lists the files to inspect, best first.
func clients(program string) (paths []string) {
	var wrappers []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		real, err := filepath.EvalSymlinks(path)
		switch {
		case err != nil || !filepath.IsAbs(real):
		case filepath.Base(real) == program:
			paths = append(paths, real)
		default:
			// Debian's pg_wrapper and its like go by the name they are called by, and
			// choose a version anew at each call: what they start is better started
			// directly, from the folders below.
			wrappers = append(wrappers, path)
		}
	}
	for _, dir := range installed() {
		paths = append(paths, filepath.Join(resolve(dir), program))
	}
	paths = slices.DeleteFunc(append(paths, wrappers...), func(path string) bool {
		_, err := os.Stat(path)
		return err != nil
	})
	return paths
}

// inspectClient checks one program. Its error continues a sentence that begins
// with the folder's name.
func inspectClient(path string) (Client, error) {
	if err := executable(path); err != nil {
		return Client{}, err
	}
	version, err := askVersion(path, nil) // it will run as this process's own account
	if err != nil {
		return Client{}, err
	}
	return Client{Path: path, Version: version, Major: leadingNumber(version)}, nil
}
