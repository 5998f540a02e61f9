package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/migrations/lint"
	"freehold/tenantdb/fleet"
)

func (e *env) migrateLintCmd() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "lint", Short: "Find what would rewrite tables, block readers or writers, or break the release before", Args: usageArgs(cobra.NoArgs),
		Long: `Find what would rewrite tables, block readers or writers, or break the release before.

Each finding says why it is one and what the safe form is. A line
"-- freehold:allow RULE reason" above a statement silences a rule for it, and
at the head of a file for all of it.

Exit status 1: there are errors. Warnings alone are status 0.`,
		Example: "  freehold migrate lint --dir migrations",
		RunE: func(*cobra.Command, []string) error {
			set, stream := migrations.Tenant(), catalog.StreamFreehold
			if dir != "" {
				var err error
				if set, err = migrations.ReadDir(dir); err != nil {
					return err
				}
				stream = catalog.StreamProduct
			}
			files, err := set.Files()
			if err != nil {
				return err
			}
			return e.lint(files, stream)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder with the product's migrations; without it, Freehold's own")
	return c
}

func (e *env) lint(files []migrations.File, stream catalog.Stream) error {
	found, err := lint.Check(files, lint.Options{Stream: string(stream)})
	if err != nil {
		return err
	}
	wrong := countErrors(found)
	if e.output == "json" {
		if err := e.json(append([]lint.Finding{}, found...)); err != nil {
			return err
		}
	} else {
		showFindings(e.out, found)
		e.say("%s: %s, %s", plural(len(files), "migration"), plural(wrong, "error"), plural(len(found)-wrong, "warning"))
	}
	if wrong > 0 {
		return exitError(exitFailed) // all is said
	}
	return nil
}

func countErrors(found []lint.Finding) (n int) {
	for _, f := range found {
		if f.Severity == lint.Error {
			n++
		}
	}
	return n
}

// showFindings tells of each, errors first.
func showFindings(w io.Writer, found []lint.Finding) {
	rank := map[lint.Severity]int{lint.Error: -1}
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b lint.Finding) int { return rank[a.Severity] - rank[b.Severity] })
	for _, f := range found {
		sayTo(w, "%s  %s:%d  %s", f.Severity, f.File, f.Line, f.Rule)
		if f.Statement != "" {
			sayTo(w, "    %s", f.Statement)
		}
		sayTo(w, "    why:  %s", f.Why)
		if f.Safe != "" {
			sayTo(w, "    safe: %s", f.Safe)
		}
	}
}

// errLint is what lintPending refuses with; what was found is told before.
var errLint = errors.New("the lint finds errors in what is to be rolled out")

// lintPending shows on stderr what the lint finds in those of the product's migrations
// that a plan has pending, and refuses errors unless the command's --no-lint says
// otherwise. Freehold's own were linted before they were released.
func (e *env) lintPending(c *cobra.Command, plan fleet.Plan) error {
	if plan.Stream != catalog.StreamProduct || len(plan.Files) == 0 {
		return nil
	}
	all, err := plan.History()
	if err != nil {
		return err
	}
	found, err := lint.Check(all, lint.Options{Stream: string(plan.Stream)})
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(f lint.Finding) bool {
		return !slices.ContainsFunc(plan.Files, func(pending migrations.File) bool { return pending.Name == f.File })
	})
	showFindings(e.err, found)
	if ignore, err := c.Flags().GetBool(noLintFlag); err == nil && ignore || countErrors(found) == 0 {
		return nil
	}
	return fmt.Errorf("%w: mend them, allow them in the file (-- freehold:allow RULE reason), or say --%s", errLint, noLintFlag)
}
