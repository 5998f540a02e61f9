package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// isolationCallers ask in the closed loop, and are the connections of the models
// that share theirs.
const isolationCallers = 16

// model is one way to keep tenants apart, at work. visit reads a row of a tenant
// by its index and writes one, in one transaction.
type model struct {
	name        string
	application string // how its connections go by, a pattern
	visit       func(ctx context.Context, tenant int) error
	close       func()
}

// isolationContests sets the three models side by side: a database for each
// tenant, through the router; a schema for each; shared tables with row-level
// security. Each does the work in the quickest form that keeps its tenants apart.
func isolationContests(ctx context.Context, b *bench) ([]contest, func(), error) {
	p, err := openPlatform(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	var models []*model
	closeAll := func() {
		for _, m := range models {
			m.close()
		}
		p.close()
	}
	for _, open := range []func(context.Context) (*model, error){p.databaseEach, p.schemaEach, p.sharedTables} {
		m, err := open(ctx)
		if err != nil {
			return nil, closeAll, err
		}
		models = append(models, m)
		b.progress("ready: %s", m.name)
	}
	var cases []string
	for _, m := range models {
		cases = append(cases, m.name+"_requests", m.name+"_p99", m.name+"_backends")
	}
	run := func(ctx context.Context, b *bench) error { return p.compare(ctx, b, models) }
	return []contest{{"isolation", cases, run}}, closeAll, nil
}

// compare measures how much each model does, and then how long a request takes
// when all are asked for the same: 30 % of what the slowest did.
func (p *platform) compare(ctx context.Context, b *bench, models []*model) error {
	z := newZipf(len(p.tenants))
	var closedSides, openSides []*side
	for _, m := range models {
		ask := func(round int) op {
			return func(ctx context.Context, caller, i int) error { return m.visit(ctx, z.at(round, caller, i)) }
		}
		// Every tenant once, so that what each keeps open is open.
		for i := range p.tenants {
			if err := m.visit(ctx, i); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
		closedSides = append(closedSides, &side{name: m.name, turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
			if _, err := closed(ctx, isolationCallers, min(warmth, d/2), ask(round)).whole(); err != nil {
				return 0, err
			}
			return closed(ctx, isolationCallers, d, ask(round)).whole()
		}})
	}
	if err := b.play(ctx, "isolation, requests", closedSides...); err != nil {
		return err
	}
	slowest := median(closedSides[0].rounds)
	for _, s := range closedSides[1:] {
		slowest = min(slowest, median(s.rounds))
	}
	for _, m := range models {
		openSides = append(openSides, &side{name: m.name, turn: func(ctx context.Context, round int, d time.Duration) (float64, error) {
			t, latencies := open(ctx, 0.3*slowest, crowd, d, uint64(round), func(ctx context.Context, _, i int) error {
				return m.visit(ctx, z.at(round, 0, i))
			})
			if _, err := t.whole(); err != nil {
				return 0, err
			}
			return p99(latencies), nil
		}})
	}
	if err := b.play(ctx, fmt.Sprintf("isolation, p99 at %.0f/s", 0.3*slowest), openSides...); err != nil {
		return err
	}
	var errs []error
	for i, m := range models {
		pids, err := p.pids(ctx, m.application)
		if err != nil {
			return err
		}
		errs = append(errs,
			b.emit(m.name+"_requests", "per second", nil, closedSides[i].rounds, fmt.Sprintf("%d callers", isolationCallers)),
			b.emit(m.name+"_p99", "ms", nil, openSides[i].rounds, fmt.Sprintf("at %.0f/s", 0.3*slowest)),
			b.emit(m.name+"_backends", "backends", nil, []float64{float64(len(pids))}, ""))
		memory, err := resident(pids)
		if err != nil {
			b.progress("%s_memory: %v", m.name, err)
			continue
		}
		errs = append(errs, b.emit(m.name+"_memory", "MB", nil, []float64{memory}, "of its backends, shared pages divided"))
	}
	return errors.Join(errs...)
}

// databaseEach is what Freehold does.
func (p *platform) databaseEach(context.Context) (*model, error) {
	r, err := p.newRouted(plenty, connsPerTenant, nil)
	if err != nil {
		return nil, err
	}
	return &model{
		name: "database", application: routerName, close: r.close,
		visit: func(ctx context.Context, tenant int) error { return r.visit(ctx, tenant, selectInsert) },
	}, nil
}

// schemaEach is one database in which each tenant has a schema, named as its
// database is. Which one it is, is said at the beginning of the transaction.
func (p *platform) schemaEach(ctx context.Context) (*model, error) {
	statements := make([]string, 0, len(p.tenants))
	for _, t := range p.tenants {
		name := pgx.Identifier{t.Config.Database}.Sanitize()
		statements = append(statements, fmt.Sprintf(`
			create schema %[1]s;
			create table %[1]s.items (id bigint generated always as identity primary key, k integer not null, note text not null);
			insert into %[1]s.items (k, note) select g, repeat('x', 100) from generate_series(1, %[2]d) g;
			create index on %[1]s.items (k);
			grant usage on schema %[1]s to bench_schema;
			grant select, insert on %[1]s.items to bench_schema`, name, itemKeys))
	}
	// Statements are prepared before any transaction says whose they are.
	pool, err := p.sharedDatabase(ctx, "bench_schema", statements, map[string]string{
		"search_path": pgx.Identifier{p.tenants[0].Config.Database}.Sanitize(),
	})
	if err != nil {
		return nil, err
	}
	return &model{
		name: "schema", application: peerName + "bench_schema", close: pool.Close,
		visit: func(ctx context.Context, tenant int) error {
			return visitShared(ctx, pool, "search_path", p.tenants[tenant].Config.Database)
		},
	}, nil
}

// sharedTables is one database whose one table holds the rows of all, with
// row-level security. Whose turn it is, is said at the beginning of the transaction.
func (p *platform) sharedTables(ctx context.Context) (*model, error) {
	ids := make([]string, 0, len(p.tenants))
	for _, t := range p.tenants {
		ids = append(ids, t.Tenant.String())
	}
	statements := []string{`
		create function me() returns uuid stable parallel safe language sql
		return nullif(current_setting('app.current_tenant_id', true), '')::uuid`, `
		create table items (
		    tenant uuid not null default me(),
		    id bigint generated always as identity primary key, k integer not null, note text not null)`}
	for _, id := range ids {
		statements = append(statements, fmt.Sprintf(`
			insert into items (tenant, k, note) select '%s', g, repeat('x', 100) from generate_series(1, %d) g`, id, itemKeys))
	}
	statements = append(statements,
		`create index on items (tenant, k)`,
		`alter table items enable row level security`,
		`alter table items force row level security`,
		`create policy own on items using (tenant = me()) with check (tenant = me())`,
		`grant select, insert on items to bench_shared`,
		`analyze items`)
	pool, err := p.sharedDatabase(ctx, "bench_shared", statements, nil)
	if err != nil {
		return nil, err
	}
	return &model{
		name: "shared", application: peerName + "bench_shared", close: pool.Close,
		visit: func(ctx context.Context, tenant int) error {
			return visitShared(ctx, pool, "app.current_tenant_id", ids[tenant])
		},
	}, nil
}

const (
	setLocal         = `select set_config($1, $2, true)`
	selectSharedItem = `select note from items where k = $1 limit 1`
	insertSharedItem = `insert into items (k, note) values ($1, $2)`
)

// visitShared is selectInsert where a setting says whose rows are meant. A batch
// is one transaction, and the setting ends with it.
func visitShared(ctx context.Context, pool *pgxpool.Pool, setting, value string) error {
	k := 1 + rand.IntN(itemKeys)
	var note string
	b := new(pgx.Batch)
	b.Queue(setLocal, setting, value)
	b.Queue(selectSharedItem, k).QueryRow(func(row pgx.Row) error { return row.Scan(&note) })
	b.Queue(insertSharedItem, k, "of the benchmark")
	return pool.SendBatch(ctx, b).Close()
}

// sharedDatabase makes a database and a login role of one name, runs the statements
// there as the superuser, and returns a pool of the role's.
func (p *platform) sharedDatabase(ctx context.Context, name string, statements []string, params map[string]string) (*pgxpool.Pool, error) {
	// The tenants' own settings of a session and their kind of password.
	cfg := p.peerConfig(0, name)
	password := cfg.Password
	for _, q := range []string{
		"create role " + name + " login password '" + password + "'",
		"create database " + name,
	} {
		if _, err := p.super.Exec(ctx, q); err != nil {
			return nil, fmt.Errorf("make %s: %w", name, err)
		}
	}
	conn, err := pgx.Connect(ctx, p.server.URL(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, q := range statements {
		if _, err := conn.Exec(ctx, q); err != nil {
			return nil, fmt.Errorf("make %s: %w", name, err)
		}
	}
	cfg.User, cfg.Database = name, name
	for key, value := range params {
		cfg.RuntimeParams[key] = value
	}
	pc, err := poolConfig(cfg, isolationCallers)
	if err != nil {
		return nil, err
	}
	return pgxpool.NewWithConfig(context.WithoutCancel(ctx), pc)
}

// pids are the backends of an application.
func (p *platform) pids(ctx context.Context, application string) ([]int, error) {
	rows, _ := p.super.Query(ctx, `select pid from pg_stat_activity
		where backend_type = 'client backend' and application_name like $1`, application)
	return pgx.CollectRows(rows, pgx.RowTo[int])
}
