package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// ServerPatch is what SetServer changes: each field that is named. Labels and
// plans are taken whole.
type ServerPatch struct {
	State        *string            `json:"state,omitempty" doc:"active, draining (takes no new tenants) or down (the same, and work on whole databases leaves it out)"`
	Labels       *map[string]string `json:"labels,omitempty" doc:"All of its labels."`
	Plans        *[]string          `json:"plans,omitempty" doc:"The plans that it takes, and that go to no server which doesn't list them; none: any that no server lists."`
	Ready        *int               `json:"ready,omitempty" doc:"Ready databases to keep for new tenants."`
	MaxDatabases *int               `json:"max_databases,omitempty" doc:"0: as many as recovery allows."`
	MaxRecovery  *int               `json:"max_recovery_seconds,omitempty" doc:"What coming back from a crash may take, as predicted from its files."`
	DiskBytes    *int64             `json:"disk_bytes,omitempty" doc:"What there is for data; 0: not known."`
	Budget       *int               `json:"budget,omitempty" doc:"Connections that Freehold may hold."`
	Reserve      *int               `json:"reserve,omitempty" doc:"Connections kept for administration."`
}

// Bounds of what a server is told to be.
const (
	maxReady       = 1000
	maxDatabases   = 1_000_000
	maxRecovery    = 24 * 60 * 60 // seconds
	maxDisk        = int64(1) << 60
	maxConnections = 262_143 // Postgres's own
)

// placement is the part of a spec that a patch can change too, as far as it is
// named.
func (s ServerSpec) placement() ServerPatch {
	var p ServerPatch
	if s.Labels != nil {
		p.Labels = &s.Labels
	}
	if s.Plans != nil {
		p.Plans = &s.Plans
	}
	p.Ready, p.MaxDatabases, p.MaxRecovery = unlessZero(s.Ready), unlessZero(s.MaxDatabases), unlessZero(s.MaxRecovery)
	p.DiskBytes = unlessZero(s.DiskBytes)
	return p
}

func unlessZero[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func (p ServerPatch) check() []error {
	var errs []error
	if p.State != nil {
		errs = append(errs, oneOf("state", *p.State, ServerActive, ServerDraining, ServerDown))
	}
	if p.Labels != nil {
		errs = append(errs, checkLabels("labels", *p.Labels)...)
	}
	if p.Plans != nil {
		if len(*p.Plans) > maxLabels {
			errs = append(errs, wrong("plans", "more than %d", maxLabels))
		}
		for _, plan := range *p.Plans {
			errs = append(errs, match("plans", plan, shortPattern, "lower-case letters, digits, dots, dashes, 64 at most"))
		}
	}
	for _, f := range []struct {
		name      string
		value     *int
		low, high int
	}{
		{"ready", p.Ready, 0, maxReady},
		{"max_databases", p.MaxDatabases, 0, maxDatabases},
		{"max_recovery_seconds", p.MaxRecovery, 1, maxRecovery},
		{"budget", p.Budget, 1, maxConnections},
		{"reserve", p.Reserve, 1, maxConnections},
	} {
		if f.value != nil {
			errs = append(errs, within(f.name, *f.value, f.low, f.high))
		}
	}
	if p.DiskBytes != nil {
		errs = append(errs, within("disk_bytes", *p.DiskBytes, 0, maxDisk))
	}
	return errs
}

func checkLabels(field string, labels map[string]string) []error {
	var errs []error
	if len(labels) > maxLabels {
		errs = append(errs, wrong(field, "more than %d", maxLabels))
	}
	for key, value := range labels {
		errs = append(errs,
			match(field, key, labelPattern, "keys of 1 to 63 letters, digits, dots, dashes, slashes"),
			line(field, value, maxLabelValue))
	}
	return errs
}

const lockServer = `
select id::text, budget, reserve, max_connections from servers where name = $1 for no key update`

const drainOpen = `
select exists (select from server_drains where server_id = $1 and state in ('running', 'halted'))`

// SetServer changes what the patch names. Its tenants get a new epoch when the
// budget is another, since their routes hold it. ErrNotFound; ErrInvalid names
// the field; ErrConflict for one that should be active while it is drained.
func (c *Catalog) SetServer(ctx context.Context, name string, p ServerPatch) (Server, error) {
	if err := invalid(p.check()...); err != nil {
		return Server{}, fmt.Errorf("set server: %w", err)
	}
	var s Server
	err := c.changePlatform(ctx, "set server", func(tx pgx.Tx) error {
		var id string
		var budget, reserve, connections int
		if err := tx.QueryRow(ctx, lockServer, name).Scan(&id, &budget, &reserve, &connections); err != nil {
			return err
		}
		if p.State != nil && *p.State == ServerActive {
			var open bool
			if err := tx.QueryRow(ctx, drainOpen, id).Scan(&open); err != nil {
				return err
			}
			if open {
				return fmt.Errorf("%w: it is drained: freehold server drain %s --cancel", ErrConflict, name)
			}
		}
		before := budget
		if p.Budget != nil {
			budget = *p.Budget
		}
		if p.Reserve != nil {
			reserve = *p.Reserve
		}
		if (p.Budget != nil || p.Reserve != nil) && budget+reserve > connections {
			return invalid(wrong("budget", "%d and a reserve of %d exceed max_connections, %d", budget, reserve, connections))
		}
		if budget != before {
			if err := renewResidents(ctx, tx, id); err != nil {
				return err
			}
		}
		var err error
		s, err = setServer(ctx, tx, id, p)
		return err
	})
	return s, err
}

const patchServer = `
update servers
   set state = coalesce($2, state), labels = coalesce($3, labels), plans = coalesce($4, plans),
       ready = coalesce($5, ready), max_databases = coalesce($6, max_databases),
       max_recovery_s = coalesce($7, max_recovery_s), disk_bytes = coalesce($8, disk_bytes),
       budget = coalesce($9, budget), reserve = coalesce($10, reserve)
 where id = $1`

// setServer writes what the patch names and reads the row.
func setServer(ctx context.Context, tx pgx.Tx, id string, p ServerPatch) (Server, error) {
	if p.Labels != nil && *p.Labels == nil {
		p.Labels = &map[string]string{} // else it would be JSON's null
	}
	var plans []string
	if p.Plans != nil {
		plans = append([]string{}, *p.Plans...)
		slices.Sort(plans)
		plans = slices.Compact(plans)
	}
	_, err := tx.Exec(ctx, patchServer, id, p.State, p.Labels, plans, p.Ready, p.MaxDatabases, p.MaxRecovery,
		p.DiskBytes, p.Budget, p.Reserve)
	if err != nil {
		return Server{}, err
	}
	return queryServer(ctx, tx, selectServers+` where s.id = $1`, id)
}

// Routes hold what is the server's, and are renewed by epoch: one for all of its
// tenants, whose rows are locked before the clock is.
const (
	lockResidents = `
select id from tenants where server_id = $1 and state <> 'deleted' order by id for no key update`
	tickResidents = `
update tenants set epoch = (select catalog_tick(false)), updated_at = now()
 where server_id = $1 and state <> 'deleted'`
)

// renewResidents gives all tenants of a server a new epoch. The caller holds the
// server's row, as place does: the order of locks is server, tenants, clock.
func renewResidents(ctx context.Context, tx pgx.Tx, id string) error {
	for _, sql := range []string{lockResidents, tickResidents} {
		if _, err := tx.Exec(ctx, sql, id); err != nil {
			return err
		}
	}
	return nil
}
