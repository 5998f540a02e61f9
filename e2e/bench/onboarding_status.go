package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"freehold/catalog"
	"freehold/migrations/localpg"
)

// statusTenants are in the catalog that the command looks at.
const statusTenants = 2000

// status sets the command beside the least that a command of Postgres's own does
// there: both are processes that start, ask and end.
func (h *hatchery) status(ctx context.Context, b *bench) error {
	program, err := h.build(ctx, "freehold/cmd/freehold")
	if err != nil {
		return err
	}
	g, err := openGround(ctx, b)
	if err != nil {
		return err
	}
	defer g.close()
	psql, err := localpg.FindClient("psql", g.server.Binaries().Major)
	if err != nil {
		return err
	}
	keys, err := catalog.NewKeyset()
	if err != nil {
		return err
	}
	keyFile := filepath.Join(h.folder, "master.key")
	if err := keys.Write(keyFile); err != nil {
		return err
	}
	const name = "freehold_status"
	cat, err := g.openCatalog(ctx, name, keys)
	if err != nil {
		return err
	}
	if _, err := g.register(ctx, name, cat, keys, statusTenants); err != nil {
		return err
	}
	look := func(ctx context.Context) error {
		out, err := output(ctx, []string{"FREEHOLD_CATALOG_URL=" + g.adminURL(name), "FREEHOLD_MASTER_KEY_FILE=" + keyFile},
			program, "status", "-o", "json")
		if err != nil {
			return err
		}
		return knowsTenants(out, statusTenants)
	}
	count := func(ctx context.Context) error {
		out, err := output(ctx, []string{
			"PGHOST=127.0.0.1", "PGPORT=" + strconv.Itoa(g.server.Port()), "PGUSER=" + adminName,
			"PGPASSWORD=" + g.password, "PGDATABASE=" + name, "PGSSLMODE=disable",
		}, psql.Path, "-XAtc", "select count(*) from tenants")
		if err == nil && strings.TrimSpace(string(out)) != strconv.Itoa(statusTenants) {
			err = fmt.Errorf("psql counts %q", out)
		}
		return err
	}
	if err := errors.Join(look(ctx), count(ctx)); err != nil {
		return err
	}
	few := span{5, 20}
	subject, peer := repeated("freehold status", few, look), repeated("psql", few, count)
	if err := b.play(ctx, "status", subject, peer); err != nil {
		return err
	}
	return b.emit("status_2000", "ratio", atMost(20), ratios(subject.rounds, peer.rounds),
		fmt.Sprintf("%s / %s ms", figure(median(subject.rounds)), figure(median(peer.rounds))))
}

// output runs a command to its end, in an environment that has nothing of
// Freehold's or of libpq's but what is given. Exit status 1 is an answer: something
// needs a person, as that no node serves here.
func output(ctx context.Context, env []string, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "FREEHOLD_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case !errors.As(err, &exit):
		return nil, fmt.Errorf("%s: %w", filepath.Base(program), err)
	case exit.ExitCode() != 1 || !json.Valid(out):
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return out, nil
}

// knowsTenants checks that a status is of so many active tenants.
func knowsTenants(status []byte, want int) error {
	var s struct {
		Tenants map[string]int `json:"tenants"`
	}
	if err := json.Unmarshal(status, &s); err != nil {
		return fmt.Errorf("freehold status: %w", err)
	}
	if got := s.Tenants["active"]; got != want {
		return fmt.Errorf("freehold status knows %d active tenants, want %d", got, want)
	}
	return nil
}
