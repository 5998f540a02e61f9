package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"freehold/catalog"
	"freehold/migrations"
)

// Plan is what a rollout would do, and why it may not begin.
type Plan struct {
	Stream  catalog.Stream         `json:"stream"`
	Target  int64                  `json:"target"`
	Latest  int64                  `json:"latest"` // version of the stream's migrations
	Options catalog.RolloutOptions `json:"options"`
	Waves   []PlanWave             `json:"waves"` // at least one
	// Current counts tenants that are at the target or beyond, Suspended those below
	// it that get there when they are resumed.
	Current   int          `json:"current"`
	Suspended int          `json:"suspended"`
	Ahead     []string     `json:"ahead"` // slugs: beyond Latest
	Servers   []PlanServer `json:"servers"`
	Pending   []PlanFile   `json:"pending"` // what somebody lacks
	Problems  []string     `json:"problems"`
	Warnings  []string     `json:"warnings"`

	Files []migrations.File `json:"-"` // as Pending

	set    migrations.Set
	lowest int64 // version that a living tenant has; of none: where new ones begin
	causes []error
}

// PlanWave is a wave and its tenants, in the order in which they are taken.
type PlanWave struct {
	Name    string       `json:"name"`
	Tenants []PlanTenant `json:"tenants"`
}

// PlanTenant is a tenant that is to be migrated.
type PlanTenant struct {
	Tenant   catalog.TenantID `json:"tenant_id"`
	Slug     string           `json:"tenant"`
	Server   string           `json:"server"`
	ServerID string           `json:"server_id"`
	From     int64            `json:"from"`
}

// PlanServer is a server with tenants that are to be migrated.
type PlanServer struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Tenants  int    `json:"tenants"`
	Parallel int    `json:"parallel"`
	Reserve  int    `json:"reserve"` // connections
}

// PlanFile is a migration that somebody lacks.
type PlanFile struct {
	Version   int64  `json:"version"`
	Name      string `json:"name"`
	NoTx      bool   `json:"no_transaction"`
	Contracts int64  `json:"contracts,omitempty"`
}

// Tenants counts those that are to be migrated.
func (p Plan) Tenants() int {
	n := 0
	for _, w := range p.Waves {
		n += len(w.Tenants)
	}
	return n
}

// Nothing reports whether there is nothing to do: also new tenants begin at the target.
func (p Plan) Nothing() bool { return p.Tenants() == 0 && p.lowest >= p.Target }

// History are the stream's migrations up to the target, pending or not.
func (p Plan) History() ([]migrations.File, error) { return p.set.UpTo(p.Target).Files() }

// Refusal is a *Refused when there are problems.
func (p Plan) Refusal() error {
	if len(p.causes) == 0 {
		return nil
	}
	return &Refused{p.Problems, p.causes}
}

func (p *Plan) problem(err error) {
	p.Problems = append(p.Problems, err.Error())
	p.causes = append(p.causes, err)
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// Plan shows what a rollout would do, and changes nothing. What forbids it is in the
// plan's problems; the error is *catalog.Invalid for a spec that makes no sense, or
// the catalog's.
func (f *Fleet) Plan(ctx context.Context, spec RolloutSpec) (Plan, error) {
	p, err := f.plan(ctx, spec)
	if err != nil {
		return p, fmt.Errorf("plan rollout: %w", err)
	}
	return p, nil
}

func (f *Fleet) plan(ctx context.Context, spec RolloutSpec) (Plan, error) {
	p := Plan{
		Stream: spec.Stream, Waves: []PlanWave{}, Ahead: []string{}, Servers: []PlanServer{},
		Pending: []PlanFile{}, Problems: []string{}, Warnings: []string{},
	}
	if err := spec.validate(); err != nil {
		return p, err
	}
	files, err := p.aim(ctx, f, spec)
	if err != nil {
		return p, err
	}
	tenants, err := f.tenants(ctx, func(catalog.Tenant) bool { return true })
	if err != nil {
		return p, err
	}
	servers, err := f.cat.Servers(ctx)
	if err != nil {
		return p, err
	}
	ids := make(map[string]string, len(servers))
	for _, s := range servers {
		ids[s.Name] = s.ID
	}
	todo := p.sort(tenants, ids)
	if p.Waves, err = waves(spec, p.Target, tenants, todo); err != nil {
		return p, err
	}
	if p.lowest < 0 {
		floors, err := f.cat.Floors(ctx)
		if err != nil {
			return p, err
		}
		p.lowest = versionOf(spec.Stream, floors)
	}
	for _, file := range files {
		if file.Version > p.lowest && file.Version <= p.Target {
			p.Files = append(p.Files, file)
			p.Pending = append(p.Pending, PlanFile{file.Version, file.Name, file.NoTx, file.Contracts})
		}
	}
	p.Options = spec.Options
	p.share(servers, todo)
	return p, p.judge(ctx, f, files, tenants)
}

// aim finds the stream's migrations and the version that is wanted of them.
func (p *Plan) aim(ctx context.Context, f *Fleet, spec RolloutSpec) (files []migrations.File, err error) {
	switch {
	case spec.Set != nil:
		p.set = *spec.Set
	case spec.Stream == catalog.StreamProduct:
		if p.set, err = f.product(ctx); err != nil {
			return nil, err
		}
	default:
		p.set = f.set
	}
	if files, err = p.set.Files(); err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, field("dir", "there are no migrations of the product yet: name the folder that has them")
	}
	p.Latest = files[len(files)-1].Version
	if p.Target = spec.Target; p.Target == 0 {
		p.Target = p.Latest
	}
	if !slices.ContainsFunc(files, func(m migrations.File) bool { return m.Version == p.Target }) {
		return nil, field("to", "there is no migration %d, the latest is %d", p.Target, p.Latest)
	}
	return files, nil
}

// sort counts the tenants, and returns those that are to be migrated.
func (p *Plan) sort(tenants []catalog.Tenant, serverIDs map[string]string) (todo []PlanTenant) {
	p.lowest = -1
	for _, t := range tenants {
		has := versionOf(p.Stream, catalog.Versions{Freehold: t.SchemaVersion, Product: t.ProductVersion})
		switch {
		case t.State == catalog.Suspended:
			if has < p.Target {
				p.Suspended++
			}
			continue
		case t.State != catalog.Active && t.State != catalog.Moving:
			continue
		}
		if p.lowest < 0 || has < p.lowest {
			p.lowest = has
		}
		if has > p.Latest {
			p.Ahead = append(p.Ahead, t.Slug)
		}
		if has >= p.Target {
			p.Current++
			continue
		}
		todo = append(todo, PlanTenant{Tenant: t.ID, Slug: t.Slug, Server: t.Server, ServerID: serverIDs[t.Server], From: has})
	}
	if len(p.Ahead) > 0 {
		p.warn("beyond version %d, the latest here: %s: a newer release migrated them", p.Latest, some(p.Ahead))
	}
	return todo
}

func versionOf(s catalog.Stream, v catalog.Versions) int64 {
	if s == catalog.StreamProduct {
		return v.Product
	}
	return v.Freehold
}

// beside is how many connections of a server's reserve others may need while
// rollouts use theirs: visits, and one for whoever looks after it.
const beside = 3

// share gives the options their defaults, and holds them against what each server has.
func (p *Plan) share(servers []catalog.Server, todo []PlanTenant) {
	left := defaultParallel
	for _, s := range servers {
		n := 0
		for _, t := range todo {
			if t.Server == s.Name {
				n++
			}
		}
		if n == 0 {
			continue
		}
		p.Servers = append(p.Servers, PlanServer{Name: s.Name, State: s.State, Tenants: n, Reserve: s.Reserve})
		left = min(left, s.Reserve-beside)
		if s.State == catalog.ServerDown {
			p.warn("server %s is down: its %s fail until it is back", s.Name, count(n, "tenant"))
		}
	}
	p.Options = withDefaults(p.Options, max(1, left))
	for i := range p.Servers {
		s := &p.Servers[i]
		s.Parallel = p.Options.Parallel
		switch {
		case s.Parallel+beside <= s.Reserve:
		case s.Parallel == 1: // less there isn't, and a fleet must be migrated
			p.warn("server %s has a reserve of %d connections: a rollout and what else is done there want %d", s.Name, s.Reserve, 1+beside)
		default:
			p.problem(&NoRoom{Server: s.Name, Parallel: s.Parallel, Reserve: s.Reserve})
		}
	}
}

// some names the first few.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
