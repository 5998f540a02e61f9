package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"freehold/cmd/freehold/app"
	"freehold/migrations/localpg"
)

func (e *env) tenantPsql() *cobra.Command {
	var write bool
	c := &cobra.Command{
		Use:   "psql SLUG [psql's own arguments]",
		Short: "Open psql in a tenant's database, read-only unless --write",
		Long: `Open psql in a tenant's database.

Read-only by default: the tenant's own role, with default_transaction_read_only
on. With --write it is the server's admin as freehold_owner. What stands behind
SLUG goes to psql. Both leave a row in operator_audit.`,
		Example: "  freehold tenant psql acme -c 'select count(*) from freehold.predictions'",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			slug, rest := args[0], args[1:]
			if len(rest) > 0 && rest[0] == "--" {
				rest = rest[1:]
			} else if i := slices.Index(rest, "--write"); i >= 0 { // said behind SLUG
				write, rest = true, slices.Delete(slices.Clone(rest), i, i+1)
			}
			t, err := tenant(ctx, p, slug)
			if err != nil {
				return err
			}
			program, err := e.findPsql(ctx, p, t.Server)
			if err != nil {
				return err
			}
			vars, cleanup, err := p.Fleet.PsqlEnv(ctx, t.ID, write)
			if err != nil {
				return err
			}
			defer cleanup()
			if err := audit(ctx, p, "tenant.psql", t.ID, map[string]any{"write": write}); err != nil {
				return err
			}
			return e.psql(ctx, program, vars, rest)
		}),
	}
	c.Flags().SetInterspersed(false)
	c.Flags().BoolVar(&write, "write", false, "as freehold_owner, not read-only")
	return c
}

// findPsql returns the psql for a server, and says so on stderr when there is
// only an older one: in a script's -c, psql itself keeps that to itself.
func (e *env) findPsql(ctx context.Context, p *app.Platform, server string) (path string, err error) {
	servers, err := p.Catalog.Servers(ctx)
	if err != nil {
		return "", err
	}
	version := 0 // as server_version_num
	for _, s := range servers {
		if s.Name == server {
			version = s.Version
		}
	}
	psql, err := localpg.FindClient("psql", version/10000)
	if err != nil {
		return "", err
	}
	if psql.Major < version/10000 {
		_, _ = fmt.Fprintf(e.err, "psql %s is older than the server, Postgres %d.%d: SQL works, some of psql's own commands (\\d …) may not\n",
			psql.Version, version/10000, version%10000)
	}
	return psql.Path, nil
}

// psql runs the real psql at this terminal. Ctrl-C is psql's own business, how
// often soever: it reaches the child by itself, and must end neither ctx's child
// nor this process, which would leave two readers at one terminal. Whoever asks
// this process to end, ends the child.
func (e *env) psql(ctx context.Context, path string, vars, args []string) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") { // nothing of the operator's own may point elsewhere
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, vars...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.stdin, e.out, e.err
	err := attended(cmd)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitError(exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("run psql: %w", err)
	}
	return nil
}

// attended runs cmd and, while it runs, ignores interrupts and passes SIGTERM on.
func attended(cmd *exec.Cmd) error {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt) // nobody reads it: that is enough to stay alive
	defer signal.Stop(interrupts)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM)
	defer signal.Stop(ends)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			return err
		case sig := <-ends:
			_ = cmd.Process.Signal(sig) // it may just have ended
		}
	}
}
