package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

// doctorUpgrade says in one line whether to begin an upgrade to this binary's release;
// what it looked at follows.
func (e *env) doctorUpgrade(c *cobra.Command) error {
	p, err := e.open(c, app.NeedCatalog)
	if errors.Is(err, catalog.ErrNotMigrated) {
		// Nodes of the release before go on with a newer catalog: it comes first.
		what := fleet.Finding{What: "the catalog's schema is older than this binary's", Fix: "freehold catalog migrate"}
		return e.showUpgrade(fleet.UpgradeReport{
			Verdict: "not yet: " + what.What + " → " + what.Fix + ", then freehold doctor --upgrade again", Findings: []fleet.Finding{what},
		})
	}
	if err != nil {
		return err
	}
	defer p.Close()
	report, err := p.DoctorUpgrade(c.Context())
	if err != nil {
		return err
	}
	return e.showUpgrade(report)
}

func (e *env) showUpgrade(r fleet.UpgradeReport) error {
	e.say("%s", r.Verdict)
	lines, _ := findingTable(r.Findings)
	if err := e.show(r, lines); err != nil {
		return err
	}
	if !r.Ready {
		return exitError(exitFailed) // all is said
	}
	return nil
}
