package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"freehold/migrations"
)

func (e *env) migrateNewCmd() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "new NAME", Short: "Write the next migration of the product: a commented file to be filled in", Args: usageArgs(cobra.ExactArgs(1)),
		Example: "  freehold migrate new add_notes --dir migrations",
		RunE: func(_ *cobra.Command, args []string) error {
			if dir == "" {
				return fmt.Errorf("%w: --dir names a folder", errUsage)
			}
			path, err := migrations.New(dir, args[0])
			if err != nil {
				return err
			}
			if e.output == "json" {
				return e.json(map[string]string{"file": path})
			}
			e.say("%s\nwhen it is written: freehold migrate lint --dir %s", path, dir)
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", "migrations", "folder with the product's migrations; made when it isn't there")
	return c
}
