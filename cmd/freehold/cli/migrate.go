package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (e *env) migrateCmd() *cobra.Command {
	return group("migrate", "Schema changes over all tenants' databases: Freehold's own, and the product's",
		e.migrateNewCmd(), e.migrateLintCmd(), e.migratePlanCmd(), e.migrateUpCmd(), e.migrateStatusCmd(), e.migrateListCmd(),
		e.migrateResumeCmd(), e.migrateAbortCmd(), e.driftCmd(), e.migrateDownCmd())
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
