package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) doctorCmd() *cobra.Command {
	var upgrade bool
	c := &cobra.Command{
		Use: "doctor", Short: "Check the catalog, the servers, the tenants' databases and the object store", Args: usageArgs(cobra.NoArgs),
		Long: `Check the catalog, the servers, the tenants' databases and the object store.

What is provably left of a deletion is removed; all else is only told. With --upgrade,
run with a new release's freehold, it says in its first line whether to begin the
upgrade to that release, and why not.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if upgrade {
				return e.doctorUpgrade(c)
			}
			p, store, err := e.openForDoctor(c)
			if err != nil {
				return err
			}
			defer p.Close()
			return e.doctor(c.Context(), p, store)
		},
	}
	c.Flags().BoolVar(&upgrade, "upgrade", false, "whether to begin an upgrade to this release; exit status 1: not yet")
	return c
}

// openForDoctor opens the object store too, if one is configured. One that is away
// is a finding: the rest is looked at all the same.
func (e *env) openForDoctor(c *cobra.Command) (p *app.Platform, store *fleet.Finding, err error) {
	if e.cfg.S3Bucket == "" {
		p, err = e.open(c, app.NeedCatalog)
		return p, nil, err
	}
	if p, err = e.open(c, app.NeedCatalog|app.NeedS3); err == nil {
		return p, &fleet.Finding{OK: true, What: "the object store answers"}, nil
	}
	away := err
	if p, err = e.open(c, app.NeedCatalog); err != nil {
		return nil, nil, err // the catalog comes first, and is the cause
	}
	return p, &fleet.Finding{What: away.Error(), Fix: "check FREEHOLD_S3_ENDPOINT, FREEHOLD_S3_BUCKET and the AWS environment"}, nil
}

func (e *env) doctor(ctx context.Context, p *app.Platform, store *fleet.Finding) error {
	// First, because what it finds is among what the doctor tells.
	report, err := p.Fleet.Reconcile(ctx)
	if err != nil {
		return err
	}
	findings, err := p.Fleet.Doctor(ctx)
	if err != nil {
		return err
	}
	if store != nil {
		findings = append(findings, *store)
	}
	findings = append(findings, reconciled(report, store != nil && store.OK)...)
	lines, bad := findingTable(findings)
	if err := e.show(findings, lines); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(findings))
	}
	return nil
}

// findingTable lists findings, and counts the bad ones.
func findingTable(findings []fleet.Finding) (lines table, bad int) {
	for _, f := range findings {
		mark, text := "ok", f.What
		if !f.OK {
			mark, bad = "BAD", bad+1
		}
		if f.Fix != "" {
			text += " → " + f.Fix
		}
		lines.add(mark, text)
	}
	return lines, bad
}

// reconciled tells what a reconciliation did, and where it couldn't look; what it
// found the doctor tells.
func reconciled(r fleet.Report, store bool) (list []fleet.Finding) {
	for _, f := range r.Mended {
		list = append(list, fleet.Finding{OK: true, What: f.What + ": removed"})
	}
	for _, name := range r.Unseen {
		list = append(list, fleet.Finding{What: name + " could not be compared with the catalog", Fix: "see above, then freehold doctor again"})
	}
	if len(r.Findings)+len(r.Unseen) == 0 {
		what := "servers agree with the catalog; no object store was looked at"
		if store {
			what = "servers and object store agree with the catalog"
		}
		list = append(list, fleet.Finding{OK: true, What: what})
	}
	return list
}
