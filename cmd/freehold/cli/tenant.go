package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) tenantCmd() *cobra.Command {
	return group("tenant", "Tenants and their databases", e.tenantCreate(), e.tenantList(), e.tenantShow(), e.tenantPsql(), e.tenantProve(),
		e.tenantAdopt(), e.tenantSuspend(), e.tenantResume(), e.tenantDelete(), e.tenantUndelete(), e.tenantReceipt(),
		e.tenantMove(), e.tenantBackup(), e.tenantRestore(), e.tenantConfirm(), e.tenantRevert(), e.tenantExport())
}

// createFailed says what of a new tenant was at fault: not found is a server. One
// that is registered is made later, and has a key that nobody saw.
func createFailed(spec catalog.TenantSpec, err error) error {
	if unfinished, ok := errors.AsType[*fleet.Unfinished](err); ok {
		return fmt.Errorf("tenant %s: %w\nhow far it is: freehold operation show %s --wait\na key for it:  freehold key create %s --scope all",
			spec.Slug, err, unfinished.Operation.ID, spec.Slug)
	}
	if errors.Is(err, catalog.ErrNotFound) && spec.Server != "" {
		return named("server", spec.Server, err)
	}
	return named("tenant", spec.Slug, err)
}

func (e *env) tenantProve() *cobra.Command {
	return &cobra.Command{
		Use:   "prove SLUG",
		Short: "Try, as the tenant's own role, every forbidden connection and grant",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			lines, err := p.Fleet.Prove(ctx, t.ID)
			if err != nil {
				return err
			}
			tab := table{}
			allowed := 0
			for _, l := range lines {
				if !l.OK {
					allowed++
				}
				tab.add(l.Try, l.Result)
			}
			if err := audit(ctx, p, "tenant.prove", t.ID, map[string]any{"tried": len(lines), "allowed": allowed}); err != nil {
				return err
			}
			if err := e.show(lines, tab); err != nil {
				return err
			}
			if allowed > 0 {
				return fmt.Errorf("%d of %d are not as they must be: the isolation of tenant %s is not proven", allowed, len(lines), t.Slug)
			}
			return nil
		}),
	}
}
