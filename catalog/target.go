package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// majorOf is the major version of a server_version_num.
func majorOf(version int) int { return version / 10000 }

// targets are the servers that a tenant may move to, the best first.
type targets struct {
	places
	id   TenantID
	from Server
}

const selectMover = `
select t.state, t.plan, t.pin, t.region, s.name, s.version
  from tenants t join servers s on s.id = t.server_id where t.id = $1`

// targets finds where a tenant may move: want is a server's name, or empty, region
// another one than the tenant's, or empty.
func (c *Catalog) targets(ctx context.Context, tx pgx.Tx, id TenantID, want, region string) (*targets, error) {
	p := &targets{id: id, places: places{full: &Full{}}}
	var state State
	spec := &p.spec
	err := tx.QueryRow(ctx, selectMover, id).Scan(&state, &spec.Plan, &spec.Pin, &spec.Region, &p.from.Name, &p.from.Version)
	if err != nil {
		return nil, err
	}
	if err := mayMove(state); err != nil {
		return nil, err
	}
	spec.Region, spec.Server = orDefault(region, spec.Region), want
	var list []Server
	var batch pgx.Batch
	batch.Queue(selectClaimants, spec.Plan).Query(func(rows pgx.Rows) (err error) {
		p.claimants, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	batch.Queue(selectServers+` where case $1 when '' then s.name <> $2 else s.name = $1 end order by s.name`, want, p.from.Name).
		Query(func(rows pgx.Rows) (err error) {
			list, err = collectServers(rows)
			return err
		})
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, err
	}
	if want != "" {
		switch {
		case len(list) == 0:
			return nil, fmt.Errorf("server %s: %w", want, ErrNotFound)
		case want == p.from.Name:
			return nil, invalid(wrong("to", "the tenant lives on %s already", want))
		case spec.Region != "" && list[0].Region != spec.Region:
			return nil, invalid(wrong("region", "server %s is in %q, the tenant's region is %q: name the region that it goes to",
				want, list[0].Region, spec.Region))
		}
	}
	for _, s := range list {
		if why := p.refuses(&s); why != "" {
			p.full.Servers = append(p.full.Servers, Refusal{s.Name, why})
			continue
		}
		p.candidates = append(p.candidates, s)
	}
	slices.SortStableFunc(p.candidates, lighter)
	return p, nil
}

// mayMove refuses those who aren't at home.
func mayMove(state State) error {
	if state == Active || state == Suspended {
		return nil
	}
	if state == Deleted {
		return pgx.ErrNoRows
	}
	return fmt.Errorf("it is %s: %w", state, ErrConflict)
}

// refuses says why a server doesn't take the tenant, or nothing. No ready database
// helps: a tenant takes its own along.
func (p *targets) refuses(s *Server) string {
	if why := s.refuses(p.spec, p.claimants); why != "" {
		return why
	}
	if majorOf(s.Version) < majorOf(p.from.Version) {
		return fmt.Sprintf("Postgres %d, older than %s's %d", majorOf(s.Version), p.from.Name, majorOf(p.from.Version))
	}
	return s.full()
}

// MoveTarget chooses the server that takes an existing tenant, by the rules of
// placement: want, a server's name, or without it the least loaded of the tenant's
// region, or of the region that is named. It is never the one that the tenant is on,
// nor one of an older major version of Postgres. Tenants that are moving to a server
// count there. Nothing is held: BeginMove looks again.
//
// Errors: *Full, with every server's reason; ErrNotFound for an unknown tenant or
// server; ErrInvalid for the tenant's own server, and one of a region that isn't
// named; ErrConflict for a tenant that is neither active nor suspended.
func (c *Catalog) MoveTarget(ctx context.Context, id TenantID, want, region string) (to Server, err error) {
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		p, err := c.targets(ctx, tx, id, want, region)
		switch {
		case err != nil:
			return fmt.Errorf("choose target: %w", err)
		case len(p.candidates) == 0:
			return p.full
		}
		to = p.candidates[0]
		return nil
	})
	return to, wrap("choose target", err)
}

// BeginMove registers a tenant's move, to the server that MoveTarget would choose at
// this moment, and holds its place there: of moves at once none overfills a server.
// spec is the operation but for Args, which args makes of the target; they must name
// it as "to". Errors: those of MoveTarget; *Busy when the tenant is busy with another
// operation.
func (c *Catalog) BeginMove(ctx context.Context, spec OperationSpec, want, region string, args func(to Server) any) (o Operation, err error) {
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		p, err := c.targets(ctx, tx, spec.Tenant, want, region)
		if err != nil {
			return fmt.Errorf("begin move: %w", err)
		}
		for _, s := range p.candidates {
			var ok bool
			if o, ok, err = p.take(ctx, tx, s, spec, args); err != nil || ok {
				return err
			}
		}
		return p.full
	})
	if err != nil {
		return Operation{}, wrap("begin move", err)
	}
	return o, nil
}

// take registers the move to a candidate: false when that doesn't take the tenant by
// now. Its row stays locked, so that the next move to it counts this one.
func (p *targets) take(ctx context.Context, tx pgx.Tx, candidate Server, spec OperationSpec, args func(Server) any) (o Operation, ok bool, err error) {
	ok, err = p.hold(ctx, tx, candidate, p.refuses, func(tx pgx.Tx, s Server) error {
		var now State
		var epoch int64
		if err := tx.QueryRow(ctx, lockTenant, p.id).Scan(&now, &epoch); err != nil {
			return err
		}
		if err := mayMove(now); err != nil {
			return fmt.Errorf("begin move: %w", err)
		}
		var from string
		if err := tx.QueryRow(ctx, selectHome, p.id).Scan(&from); err != nil {
			return err
		}
		if from != p.from.Name {
			return fmt.Errorf("begin move: it lives on %s by now: %w", from, ErrConflict)
		}
		spec.Args = args(s)
		o, err = beginOperation(ctx, tx, spec)
		return err
	})
	return o, ok, err
}

const selectHome = `select s.name from tenants t join servers s on s.id = t.server_id where t.id = $1`
