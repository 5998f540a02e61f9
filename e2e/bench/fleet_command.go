package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// mostCommanded is how many databases a turn of goose's command migrates.
const mostCommanded = 50

// versusCommand sets a rollout with the workers that it has by default beside what
// people begin with: a loop of goose's own command over all databases.
func (y *shipyard) versusCommand(ctx context.Context, b *bench) error {
	program, err := y.gooseCommand(ctx)
	if err != nil {
		return err
	}
	r, err := y.raced(ctx, b)
	if err != nil {
		return err
	}
	t, err := r.openTeam(ctx, "command", min(len(r.tenants), mostCommanded))
	if err != nil {
		return err
	}
	dir := filepath.Join(y.folder, "command")
	command := func(ctx context.Context, url string, _ int) error {
		cmd := exec.CommandContext(ctx, program, "up")
		cmd.Env = append(os.Environ(), "GOOSE_DRIVER=postgres", "GOOSE_DBSTRING="+url, "GOOSE_MIGRATION_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("goose: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return err
	}
	loop := &side{name: "goose's command in a loop", turn: func(ctx context.Context, _ int, _ time.Duration) (float64, error) {
		if err := writeProduct(dir, t.made+1, t.version+1); err != nil {
			return 0, err
		}
		return t.migrate(ctx, 1, command)
	}}
	if _, err := loop.turn(ctx, 0, 0); err != nil { // the first finds everything cold
		return err
	}
	whole := r.rolledOut("rollout", 0)
	if err := b.play(ctx, "vs_goose_cli", whole, loop); err != nil {
		return err
	}
	return b.emitRate("vs_goose_cli", atLeast(2.5), pair{whole, loop})
}

// gooseModule is where goose's command lies, of the version that Freehold has too.
const gooseModule = "github.com/pressly/goose/v3"

// Drivers of other databases, which would make the command slow to build; of Postgres
// it has all.
const gooseTags = "no_clickhouse no_libsql no_mssql no_mysql no_sqlite3 no_vertica no_ydb"

// gooseCommand installs goose's command as its authors say, in this run's own folder.
func (y *shipyard) gooseCommand(ctx context.Context) (program string, err error) {
	version, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", gooseModule).Output()
	if err != nil {
		return "", fmt.Errorf("look up goose's version: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "install", "-tags", gooseTags, gooseModule+"/cmd/goose@"+strings.TrimSpace(string(version)))
	cmd.Env = append(os.Environ(), "GOBIN="+y.folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install goose: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return filepath.Join(y.folder, "goose"), nil
}
