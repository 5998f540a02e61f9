package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
)

// UpgradeReport says whether to begin an upgrade of the fleet to this binary.
type UpgradeReport struct {
	Ready    bool      `json:"ready"`
	Verdict  string    `json:"verdict"` // one line
	From     int64     `json:"from"`    // the lowest version of Freehold's schema that a tenant has
	Target   int64     `json:"target"`  // this binary's latest
	Findings []Finding `json:"findings"`
}

// UpgradeOptions of DoctorUpgrade.
type UpgradeOptions struct {
	SchemaMin int64 // the oldest schema of tenants that this binary serves
}

const (
	// upgradeBackup is how old the catalog's newest backup may be when an upgrade begins.
	upgradeBackup = 24 * time.Hour
	// maxReasons is how many reasons the verdict names.
	maxReasons = 3
)

// DoctorUpgrade looks at what an upgrade to this binary would meet: the catalog and
// its backup, the servers, the nodes that serve now, the tenants' versions, open
// rollouts, the migrations, and what is known of drift. It changes nothing, and
// connects to each server, not to tenants' databases. The error is the catalog's
// alone.
func (f *Fleet) DoctorUpgrade(ctx context.Context, o UpgradeOptions) (UpgradeReport, error) {
	d := &upgrade{diagnosis: &diagnosis{Fleet: f}, UpgradeOptions: o}
	d.report.Target = f.latest
	if err := d.look(ctx); err != nil {
		return d.report, fmt.Errorf("doctor: %w", err)
	}
	d.report.Findings = d.findings
	d.conclude()
	return d.report, nil
}

type upgrade struct {
	*diagnosis
	UpgradeOptions
	report UpgradeReport
	next   string // what to do when all is well
}

func (d *upgrade) look(ctx context.Context) error {
	now, err := d.cat.Overview(ctx, d.latest)
	if err != nil {
		return err
	}
	d.ok("the catalog's schema fits this binary")
	plan, err := d.Plan(ctx, RolloutSpec{Stream: catalog.StreamFreehold})
	if err != nil {
		return err
	}
	d.rollouts(now)
	d.tenants(plan)
	nodes, err := d.liveNodes(ctx)
	if err != nil {
		return err
	}
	if err := d.nodes(plan, nodes); err != nil {
		return err
	}
	d.problems(plan)
	if err := d.productFiles(ctx); err != nil {
		return err
	}
	d.answering(ctx, now.Servers)
	d.drift(now)
	d.backup(now)
	return nil
}

// rollouts are those that have to end first.
func (d *upgrade) rollouts(now catalog.Overview) {
	for _, r := range now.Rollouts {
		fix := "freehold migrate status " + r.ID
		if r.State == catalog.RolloutRunning {
			fix = "wait for it: freehold migrate status " + r.ID + " --watch"
		}
		d.bad(fmt.Sprintf("rollout %s of %s is %s", r.ID, r.Stream, r.State), fix)
	}
	if len(now.Rollouts) == 0 {
		d.ok("no rollout is open")
	}
}

// tenants tells whether this binary can serve, and migrate, what there is.
func (d *upgrade) tenants(p Plan) {
	d.report.From = p.Target
	var below []string
	for _, w := range p.Waves {
		for _, t := range w.Tenants {
			d.report.From = min(d.report.From, t.From)
			if t.From < d.SchemaMin {
				below = append(below, t.Slug)
			}
		}
	}
	switch {
	case len(p.Ahead) > 0:
		d.bad("beyond schema "+fmt.Sprint(p.Latest)+", the latest that this binary knows: "+few(p.Ahead), "use the newer freehold that migrated them")
	case len(below) > 0:
		d.bad(fmt.Sprintf("below schema %d, the oldest that this binary serves: %s", d.SchemaMin, few(below)),
			"freehold migrate up, with the release before this one")
	case p.Tenants() > 0:
		d.ok("%s of %d to migrate, from schema %d to %d", count(p.Tenants(), "tenant"), p.Tenants()+p.Current, d.report.From, p.Target)
	default:
		d.ok("%s at schema %d already", count(p.Current, "tenant"), p.Target)
	}
	if p.Suspended > 0 {
		d.ok("%s below it: brought up when resumed", count(p.Suspended, "suspended tenant"))
	}
}

// nodes holds what the live nodes serve against what the tenants have, and will have.
func (d *upgrade) nodes(p Plan, nodes []catalog.Node) error {
	needs, err := d.set.Needs(p.Target)
	if err != nil {
		return err
	}
	var deaf, old []string // can't serve what there is, what there will be
	for _, n := range nodes {
		switch {
		case n.SchemaMax > 0 && n.SchemaMin > d.report.From:
			deaf = append(deaf, n.Name)
		case n.SchemaMax < needs: // one that doesn't say is of a release before that
			old = append(old, n.Name)
		}
	}
	switch {
	case len(nodes) == 0:
		d.ok("no node serves now")
	case len(deaf) > 0:
		d.bad(fmt.Sprintf("tenants at schema %d are refused by: %s", d.report.From, few(deaf)), "freehold migrate up")
	case p.Tenants() == 0:
		d.ok("%s", count(len(nodes), "live node"))
	case len(old) > 0:
		d.ok("%s can't serve schema %d: %s", count(len(old), "live node"), p.Target, few(old))
		d.next = fmt.Sprintf("put this release's binary in place of %s first, then freehold migrate up", few(old))
	default:
		d.ok("%s, each of which can serve schema %d", count(len(nodes), "live node"), p.Target)
	}
	return nil
}

// problems are why the rollout could not begin. Nodes of the release before that a
// contraction waits for are replaced by the upgrade itself.
func (d *upgrade) problems(p Plan) {
	for _, cause := range p.causes {
		if _, open := errors.AsType[*catalog.OpenRollout](cause); open {
			continue // told already
		}
		early, is := errors.AsType[*TooEarly](cause)
		switch {
		case is && len(early.Tenants) > 0 && early.First > 0:
			first := fmt.Sprintf("freehold migrate up --to %d", early.First)
			d.ok("%s waits for all to be at schema %d: it takes a rollout before it", early.File, early.Needs)
			if len(early.Nodes) > 0 {
				d.next = fmt.Sprintf("put this release's binary in place of %s, %s, then freehold migrate up", few(early.Nodes), first)
			} else {
				d.next = first + ", then freehold migrate up"
			}
		case is && len(early.Tenants) == 0:
			d.ok("%s takes away what these still use: %s", early.File, few(early.Nodes))
			d.next = fmt.Sprintf("put this release's binary in place of %s first, then freehold migrate up", few(early.Nodes))
		default:
			d.bad(cause.Error(), "freehold migrate plan")
		}
	}
}

// productFiles looks at the product's migrations: their text is in the catalog, and this
// binary, which may read them otherwise than the last one, has to understand it.
func (d *upgrade) productFiles(ctx context.Context) error {
	set, err := d.product(ctx)
	if err != nil {
		return err
	}
	files, err := set.Files()
	if err != nil {
		d.bad("the product's migrations can't be read by this binary: "+err.Error(), "freehold migrate lint --dir DIR")
		return nil
	}
	if len(files) > 0 {
		d.ok("the product's %s can be read", count(len(files), "migration"))
	}
	return nil
}

// answering connects to each server as a rollout would.
func (d *upgrade) answering(ctx context.Context, servers []catalog.Server) {
	away := make([]string, len(servers))
	var group errgroup.Group
	group.SetLimit(proveParallel)
	for i, s := range servers {
		group.Go(func() error {
			if s.State == catalog.ServerDown {
				away[i] = "is down, with " + count(s.Tenants, "tenant")
				return nil
			}
			ctx, cancel := context.WithTimeout(ctx, lookTime)
			defer cancel()
			conn, err := d.admin(ctx, s.Name, maintenance)
			if err != nil {
				away[i] = "can't be reached: " + reason(ctx, err)
				return nil
			}
			closeConn(ctx, conn)
			return nil
		})
	}
	_ = group.Wait() // failures are in away
	good := 0
	for i, s := range servers {
		switch {
		case away[i] == "":
			good++
		case s.Tenants > 0:
			d.bad("server "+s.Name+" "+away[i], "freehold server show "+s.Name)
		}
	}
	if good > 0 {
		d.ok("%s", count(good, "server")+" can be reached")
	}
}

func (d *upgrade) drift(now catalog.Overview) {
	s := now.Schemas
	if s.Drifted > 0 {
		d.bad(fmt.Sprintf("the schemas of %s are not what the migrations make: %s", count(s.Drifted, "tenant"), few(s.DriftedTenants)), "freehold migrate drift")
	}
	if s.InvalidIndexes > 0 {
		d.bad(fmt.Sprintf("%s invalid indexes: %s", count(s.InvalidIndexes, "tenant")+" with", few(s.InvalidInTenants)), "freehold migrate drift --rebuild")
	}
	switch {
	case s.Drifted+s.InvalidIndexes > 0:
	case s.Newest == nil:
		d.ok("schemas were never compared: freehold migrate drift does it")
	default:
		d.ok("no drift is known: %s compared, last %s ago", count(s.Compared, "schema"), s.Newest.Round(time.Second))
	}
}

func (d *upgrade) backup(now catalog.Overview) {
	switch {
	case now.FirstTenant == 0:
		d.ok("there is no tenant yet: the catalog needs no backup")
	case now.Backup == nil:
		d.bad("the catalog has no backup", "freehold catalog backup")
	case *now.Backup > upgradeBackup:
		d.bad("the catalog's newest backup is "+now.Backup.Round(time.Minute).String()+" old", "freehold catalog backup")
	default:
		d.ok("the catalog's newest backup is %s old", now.Backup.Round(time.Second))
	}
}

// conclude says it in one line.
func (d *upgrade) conclude() {
	var reasons []string
	for _, f := range d.findings {
		if !f.OK {
			reasons = append(reasons, f.What+" → "+f.Fix)
		}
	}
	d.report.Ready = len(reasons) == 0
	if !d.report.Ready {
		more := ""
		if len(reasons) > maxReasons {
			more = fmt.Sprintf("; and %d more", len(reasons)-maxReasons)
		}
		d.report.Verdict = "not yet: " + strings.Join(slices.Clip(reasons[:min(len(reasons), maxReasons)]), "; ") + more
		return
	}
	switch {
	case d.report.From == d.report.Target:
		d.report.Verdict = fmt.Sprintf("ready to upgrade: tenants are at schema %d already, only binaries are replaced", d.report.Target)
	case d.next != "":
		d.report.Verdict = fmt.Sprintf("ready to upgrade from schema %d to %d: %s", d.report.From, d.report.Target, d.next)
	default:
		d.report.Verdict = fmt.Sprintf("ready to upgrade from schema %d to %d: this release's binary in place of the nodes', then freehold migrate up", d.report.From, d.report.Target)
	}
}
