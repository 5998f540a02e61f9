package localpg_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"freehold/migrations/localpg"
	"freehold/migrations/pgtest"
)

// The tests here change the environment, so none of them is parallel.

// program writes an executable script.
func program(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// installation is a folder with the programs of one version.
func installation(t *testing.T, version string, programs ...string) string {
	t.Helper()
	dir := pgtest.TempDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program(t, dir, "postgres", "echo 'postgres (PostgreSQL) "+version+" (Test 1)'")
	for _, name := range append(programs, "initdb") {
		program(t, dir, name, "exit 0")
	}
	return dir
}

func TestFindThisMachines(t *testing.T) {
	b, err := localpg.Find()
	if err != nil {
		t.Fatal(err)
	}
	if b.Major < localpg.MinMajor || b.Major > localpg.MaxMajor || !strings.HasPrefix(b.Version, strconv.Itoa(b.Major)) {
		t.Errorf("found %+v", b)
	}
	c, err := localpg.FindClient("psql", b.Major)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(c.Path, "--version").Output()
	if err != nil || !strings.Contains(string(out), c.Version) || !strings.HasPrefix(c.Version, strconv.Itoa(c.Major)) {
		t.Errorf("found %+v, which says %q, %v", c, out, err)
	}
}

func TestFindFollowsLinksOnPath(t *testing.T) {
	real := installation(t, "17.4", "psql")
	links := t.TempDir()
	if err := os.Symlink(filepath.Join(real, "postgres"), filepath.Join(links, "postgres")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FREEHOLD_PG_BIN", "")
	t.Setenv("PATH", links+":"+os.Getenv("PATH"))
	b, err := localpg.Find("psql")
	if err != nil || b.Dir != real || b.Version != "17.4" || b.Major != 17 {
		t.Errorf("found %+v, %v; want %s", b, err, real)
	}
}

func TestFindPassesOver(t *testing.T) {
	good := installation(t, "16.9", "psql")
	t.Setenv("FREEHOLD_PG_BIN", "")
	for name, bad := range map[string]string{
		"old":     installation(t, "14.2", "psql"),
		"new":     installation(t, "19beta1", "psql"),
		"no psql": installation(t, "16.9"),
		"broken":  installation(t, "", "psql"),
	} {
		t.Setenv("PATH", bad+":"+good+":/usr/bin:/bin")
		if b, err := localpg.Find("psql"); err != nil || b.Dir != good {
			t.Errorf("%s first: found %+v, %v", name, b, err)
		}
	}
}

func TestFindWhereTold(t *testing.T) {
	for name, c := range map[string]struct{ dir, want string }{
		"fits":    {installation(t, "18.1", "psql"), ""},
		"old":     {installation(t, "14.2", "psql"), "is version 14.2, supported are 15 to 18"},
		"no psql": {installation(t, "18.1"), "has no psql"},
		"nothing": {t.TempDir(), "has no postgres"},
	} {
		t.Setenv("FREEHOLD_PG_BIN", c.dir)
		b, err := localpg.Find("psql")
		if c.want == "" {
			if err != nil || b.Dir != c.dir {
				t.Errorf("%s: found %+v, %v", name, b, err)
			}
			continue
		}
		if !errors.Is(err, localpg.ErrNotFound) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInstall(t *testing.T) {
	tools := t.TempDir()
	log := filepath.Join(t.TempDir(), "log")
	program(t, tools, "apt-get", "echo \"$@\" >> "+log)
	program(t, tools, "sudo", `[ "$1" = -n ] && shift; exec "$@"`)
	// Found afterwards, as if the package had brought it.
	t.Setenv("FREEHOLD_PG_BIN", installation(t, "17.4", "psql", "pg_dump"))
	t.Setenv("PATH", tools+":/usr/bin:/bin")

	t.Run("forbidden", func(t *testing.T) {
		t.Setenv("FREEHOLD_NO_INSTALL", "1")
		var out bytes.Buffer
		if err := localpg.Install(t.Context(), strings.NewReader(""), &out); !errors.Is(err, localpg.ErrNotAllowed) {
			t.Errorf("error = %v", err)
		}
		if !strings.Contains(out.String(), "apt-get install") {
			t.Errorf("the command isn't shown: %q", out.String())
		}
		if _, err := os.Stat(log); !errors.Is(err, os.ErrNotExist) {
			t.Error("the command was run")
		}
	})
	t.Run("no terminal", func(t *testing.T) {
		t.Setenv("FREEHOLD_NO_INSTALL", "")
		var out bytes.Buffer
		if err := localpg.Install(t.Context(), strings.NewReader(""), &out); err != nil {
			t.Fatal(err)
		}
		ran, err := os.ReadFile(log)
		if err != nil || string(ran) != "update\ninstall -y --no-install-recommends postgresql\n" {
			t.Errorf("ran %q, %v", ran, err)
		}
	})
	t.Run("useless", func(t *testing.T) {
		t.Setenv("FREEHOLD_NO_INSTALL", "")
		t.Setenv("FREEHOLD_PG_BIN", installation(t, "13.1", "psql", "pg_dump"))
		if err := localpg.Install(t.Context(), strings.NewReader(""), &bytes.Buffer{}); !errors.Is(err, localpg.ErrNotFound) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("no way", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if err := localpg.Install(t.Context(), strings.NewReader(""), &bytes.Buffer{}); !errors.Is(err, localpg.ErrNoInstaller) {
			t.Errorf("error = %v", err)
		}
	})
}
