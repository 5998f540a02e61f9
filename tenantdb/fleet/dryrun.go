package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb/fleet/dump"
)

// DryRunOptions say on whose clone a dry run is done.
type DryRunOptions struct {
	Tenant     string // slug
	SchemaOnly bool   // the clone has no rows: quicker, and tells nothing of durations
}

// DryRunReport is what migrations did to the clone of a tenant's database.
type DryRunReport struct {
	Tenant     string         `json:"tenant"`
	Server     string         `json:"server"`
	Stream     catalog.Stream `json:"stream"`
	From       int64          `json:"from"`
	To         int64          `json:"to"` // that the clone reached
	SchemaOnly bool           `json:"schema_only"`
	CloneTook  time.Duration  `json:"clone_took_ns"`
	Bytes      int64          `json:"bytes"`       // of the clone, before
	BytesAfter int64          `json:"bytes_after"` // and after all
	Steps      []DryRunStep   `json:"steps"`
	Failure    *DryRunFailure `json:"failure,omitempty"` // of the step after the last
	Fleet      DryRunFleet    `json:"fleet"`
}

// DryRunStep is what one migration did.
type DryRunStep struct {
	File  string        `json:"file"`
	NoTx  bool          `json:"no_transaction"`
	Took  time.Duration `json:"took_ns"`
	Locks []DryRunLock  `json:"locks"` // on what was there before, the longest held first
	// Rewrites are tables and indexes whose files were written anew, or emptied, and
	// Built the indexes that it made on tables that were there before.
	Rewrites []DryRunRelation `json:"rewrites"`
	Built    []DryRunRelation `json:"built"`
	Created  []string         `json:"created"`
	Dropped  []string         `json:"dropped"`
	Grown    int64            `json:"grown_bytes"` // of the database; may be negative
	WAL      int64            `json:"wal_bytes"`   // of the whole server meanwhile, so that much at most
}

// DryRunLock is a lock that a migration took on a table, a view, a sequence or an
// index, for others than mere readers.
type DryRunLock struct {
	Relation string        `json:"relation"`
	Kind     string        `json:"kind"`
	Mode     string        `json:"mode"`
	Blocks   string        `json:"blocks"` // "reads and writes", "writes", or ""
	Held     time.Duration `json:"held_ns"`
}

// DryRunRelation is a table or an index, and its size.
type DryRunRelation struct {
	Relation string `json:"relation"`
	Kind     string `json:"kind"`
	On       string `json:"on,omitempty"` // the table of an index
	Bytes    int64  `json:"bytes"`        // before; of a new one, after
	Invalid  bool   `json:"invalid,omitempty"`
}

// DryRunFailure is the migration that failed on the clone.
type DryRunFailure struct {
	File  string `json:"file"`
	Kind  string `json:"kind"`
	Error string `json:"error"`
}

// DryRunFleet is what the durations would come to for all of the plan's tenants.
type DryRunFleet struct {
	Tenants   int           `json:"tenants"`
	Estimated time.Duration `json:"estimated_ns"` // without soak
	Soak      time.Duration `json:"soak_ns"`
	How       string        `json:"how"`
}

// DryRun does what a rollout of spec would do on a clone of one tenant's database,
// one migration after another, reports what each did, and drops the clone. The tenant
// is read by pg_dump, which waits no longer than seconds for its tables; nothing is
// changed there. The clone is on the same server, and nobody but its admin can
// connect to it.
//
// The error says why there is no report, or which migration failed: then the report
// has those before it. localpg.ErrNotFound without fitting client programs,
// catalog.ErrConflict for a tenant that is neither active nor suspended, and where the
// server hasn't got the room.
func (f *Fleet) DryRun(ctx context.Context, spec RolloutSpec, o DryRunOptions) (DryRunReport, error) {
	p, err := f.plan(ctx, spec)
	if err != nil {
		return DryRunReport{}, fmt.Errorf("dry run: %w", err)
	}
	d := &dryRun{Fleet: f, plan: p, options: o, report: DryRunReport{
		Tenant: o.Tenant, Stream: p.Stream, SchemaOnly: o.SchemaOnly, Steps: []DryRunStep{},
	}}
	if err := d.run(ctx); err != nil {
		return d.report, fmt.Errorf("dry run: %w", err)
	}
	return d.report, nil
}

type dryRun struct {
	*Fleet
	plan    Plan
	options DryRunOptions
	tenant  catalog.Tenant
	report  DryRunReport
}

func (d *dryRun) run(ctx context.Context) (err error) {
	if d.tenant, err = d.cat.TenantBySlug(ctx, d.options.Tenant); err != nil {
		return fmt.Errorf("tenant %s: %w", d.options.Tenant, err)
	}
	d.report.Server = d.tenant.Server
	if s := d.tenant.State; s != catalog.Active && s != catalog.Suspended {
		return fmt.Errorf("tenant %s is %s: %w", d.tenant.Slug, s, catalog.ErrConflict)
	}
	server, err := d.cat.Server(ctx, d.tenant.Server)
	if err != nil {
		return err
	}
	tools, err := dump.Find(server.Version / versionUnit)
	if err != nil {
		return err
	}
	if err := d.room(ctx, server); err != nil {
		return err
	}
	clone, drop, err := d.scratch(ctx, d.tenant.Server)
	if err != nil {
		return fmt.Errorf("make the clone: %w", err)
	}
	defer drop()
	began := time.Now()
	if err := d.copyInto(ctx, tools, clone); err != nil {
		return fmt.Errorf("clone the tenant: %w", err)
	}
	d.report.CloneTook = time.Since(began)
	if err := d.migrate(ctx, clone); err != nil {
		return err
	}
	d.project(server)
	return nil
}

// versionUnit is of a server_version_num.
const versionUnit = 10000

const selectSize = `select pg_database_size(current_database())`

// room refuses a clone that would fill the server's disk, as far as that is known.
func (d *dryRun) room(ctx context.Context, server catalog.Server) error {
	conn, err := d.owner(ctx, d.tenant)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	var bytes int64
	if err := conn.QueryRow(ctx, selectSize).Scan(&bytes); err != nil {
		return translate(ctx, err)
	}
	if left := server.DiskBytes - server.UsedBytes; server.DiskBytes > 0 && !d.options.SchemaOnly && bytes > left {
		return fmt.Errorf("server %s has %d bytes left, the tenant %d: %w", server.Name, max(0, left), bytes, catalog.ErrConflict)
	}
	return nil
}

// migrate runs what the clone lacks, one file after another.
func (d *dryRun) migrate(ctx context.Context, clone string) error {
	cfg, err := d.ownerConfig(ctx, d.tenant.Server, clone)
	if err != nil {
		return err
	}
	has, err := d.versions(ctx, cfg)
	if err != nil {
		return err
	}
	d.report.From = versionOf(d.plan.Stream, has)
	d.report.To = d.report.From
	files, err := d.plan.set.Files()
	if err != nil {
		return err
	}
	// As the admin: the owner of databases isn't told what others' sessions are.
	conn, err := d.admin(ctx, d.tenant.Server, clone)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	w := &watch{conn: conn, versions: d.plan.set.Table}
	if err := w.open(ctx); err != nil {
		return err
	}
	d.report.Bytes, d.report.BytesAfter = w.was.Bytes, w.was.Bytes
	if d.report.From > d.plan.Latest {
		return fmt.Errorf("%w: it has version %d, the latest here is %d", migrations.ErrAhead, d.report.From, d.plan.Latest)
	}
	for _, file := range files {
		if file.Version <= d.report.From || file.Version > d.plan.Target {
			continue
		}
		if err := d.step(ctx, cfg, w, file); err != nil {
			return err
		}
	}
	return nil
}

func (d *dryRun) step(ctx context.Context, cfg *pgx.ConnConfig, w *watch, file migrations.File) error {
	o := d.plan.Options
	w.begin(ctx)
	began := time.Now()
	done, err := migrations.Options{
		LockTimeout: o.LockTimeout, StatementTimeout: o.StatementTimeout,
		At: func(point string) { w.at(ctx, point) },
	}.Apply(ctx, cfg, d.plan.set.UpTo(file.Version))
	took := time.Since(began)
	step, werr := w.end(ctx)
	if err != nil {
		kind, text := failure(ctx, err, took, o.StatementTimeout)
		d.report.Failure = &DryRunFailure{File: file.Name, Kind: kind, Error: text}
		return because(ctx, err)
	}
	if werr != nil {
		return fmt.Errorf("watch %s: %w", file.Name, werr)
	}
	if len(done.Steps) == 1 {
		took = done.Steps[0].Took
	}
	step.File, step.NoTx, step.Took = file.Name, file.NoTx, max(0, took-w.looked)
	d.report.Steps = append(d.report.Steps, step)
	d.report.To, d.report.BytesAfter = file.Version, w.was.Bytes
	return nil
}

// project multiplies what the clone took. It is a hint: who else is busy there, and
// how large each tenant is, it doesn't know.
func (d *dryRun) project(server catalog.Server) {
	var fixed, sized time.Duration
	for _, s := range d.report.Steps {
		if len(s.Rewrites)+len(s.Built) > 0 {
			sized += s.Took
		} else {
			fixed += s.Took
		}
	}
	fleet := &d.report.Fleet
	fleet.How = "what the clone took, for each tenant, as many at once on each server as the plan says"
	scale := 1.0
	if sized > 0 && !d.report.SchemaOnly && server.Databases > 0 && server.UsedBytes > 0 && d.report.Bytes > 0 {
		scale = float64(server.UsedBytes) / float64(server.Databases) / float64(d.report.Bytes)
		fleet.How += fmt.Sprintf("; rewrites and index builds × %.2f, since databases on server %s are of that size against the clone on average",
			scale, server.Name)
	}
	each := fixed + time.Duration(float64(sized)*scale)
	fleet.Tenants = d.plan.Tenants()
	for _, s := range d.plan.Servers {
		rounds := (s.Tenants + s.Parallel - 1) / s.Parallel
		fleet.Estimated = max(fleet.Estimated, time.Duration(rounds)*each)
	}
	fleet.Soak = time.Duration(len(d.plan.Waves)-1) * d.plan.Options.Soak
	if d.report.SchemaOnly {
		fleet.How += "; the clone had no rows: tables that have some take longer"
	}
}

// errNoClone is a clone that isn't one: the text of a child process that says why
// may hold rows, and isn't kept.
var errNoClone = errors.New("the clone could not be made")
