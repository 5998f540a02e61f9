package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

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
			if i := slices.Index(rest, "--write"); i >= 0 { // said behind SLUG
				write, rest = true, slices.Delete(slices.Clone(rest), i, i+1)
			}
			t, err := tenant(ctx, p, slug)
			if err != nil {
				return err
			}
			bin, err := localpg.Find("psql")
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
			return e.psql(ctx, filepath.Join(bin.Dir, "psql"), vars, rest)
		}),
	}
	c.Flags().SetInterspersed(false)
	c.Flags().BoolVar(&write, "write", false, "as freehold_owner, not read-only")
	return c
}

// psql runs the real psql at this terminal. Ctrl-C is psql's own business, so
// ctx, which ends with it, does not end the child.
func (e *env) psql(ctx context.Context, path string, vars, args []string) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") { // nothing of the operator's own may point elsewhere
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, vars...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.stdin, e.out, e.err
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitError(exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("run psql: %w", err)
	}
	return nil
}
