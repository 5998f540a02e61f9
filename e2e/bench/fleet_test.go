package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/migrations/pgtest"
)

// The default of -tenants is the whole of each case.
func TestTheWholeOfFleet(t *testing.T) {
	t.Setenv("FREEHOLD_BENCH_ROUNDS", "")
	opt, _, err := parse([]string{"fleet"})
	if err != nil || fleetServed*opt.tenants != 1000 || fleetRaced*float64(opt.tenants) != 200 {
		t.Errorf("%d tenants, %v", opt.tenants, err)
	}
}

// Every side runs the same statements: one column, one table, one index.
func TestSidesMigrateAlike(t *testing.T) {
	t.Parallel()
	set, err := product(3)
	if err != nil {
		t.Fatal(err)
	}
	theirs := (&team{made: 1, version: 2}).nextFiles()
	dir := t.TempDir()
	if err := writeProduct(dir, 1, 3); err != nil {
		t.Fatal(err)
	}
	name, _ := productFile(3)
	body, err := fs.ReadFile(set.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	same, err := fs.ReadFile(theirs, name)
	if err != nil || !bytes.Equal(body, same) {
		t.Errorf("goose's %s is another one: %v", name, err)
	}
	same, err = os.ReadFile(filepath.Join(dir, name))
	if err != nil || !bytes.Equal(body, same) {
		t.Errorf("the folder's %s is another one: %v", name, err)
	}
	sql, found := strings.CutPrefix(string(body), "-- +goose Up\n")
	if !found || sql != nextStatements(3) {
		t.Errorf("raw pgx runs something else than %q", body)
	}
	for _, what := range []string{"alter table bench.items add column", "create table", "create index"} {
		if strings.Count(sql, what) != 1 {
			t.Errorf("%q isn't once in %q", what, sql)
		}
	}
	names, err := fs.Glob(theirs, "*")
	if err != nil || !slices.Equal(names, []string{"00002_bench.sql", "00003_bench.sql"}) {
		t.Errorf("goose has %q for a database made with the first: %v", names, err)
	}
}

// A process is seen to end, and killed when nobody waits any longer.
func TestProcess(t *testing.T) {
	t.Parallel()
	o := &operator{program: "sh"}
	p := o.command("-c", "echo said; exit 3")
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t.Context()); err == nil || p.said() != "said" {
		t.Errorf("got %v, %q", err, p.said())
	}
	p = o.command("-c", "exec sleep 60")
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.wait(ctx); err == nil || p.cmd.ProcessState == nil {
		t.Errorf("it lives on: %v", err)
	}
}

// The smallest run of a contest; the long form runs them all.
func TestFleetMeasuresItsCases(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := trial(&out)
	b.opt.rounds, b.opt.tenants = 1, 10
	b.opt.only = regexp.MustCompile(`^fingerprint$`)
	want, limit := []string{"fingerprint"}, time.Minute
	if pgtest.Long() {
		b.opt.only = regexp.MustCompile("")
		want = []string{"vs_goose_1", "raw_1", "vs_goose_4", "raw_4", "vs_goose_16", "raw_16", "vs_goose_cli", "fingerprint",
			"served_p99", "served_failed", "resume"}
		b.opt.slot = 100 * time.Millisecond
		limit = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := b.run(ctx, topic{"fleet", fleetContests}); err != nil {
		t.Fatal(err)
	}
	measured(t, &out, want)
}
