package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

const (
	claims   = 10   // at most in a turn
	maxReady = 1000 // that a server can be told to keep
)

// makes is how many databases a turn makes: enough for a median, and few enough
// for the disk.
var makes = span{3, 8}

// onboard sets the whole of an onboarding, with a ready database and without,
// beside what everybody begins with. The peer has no catalog, keeps no secret,
// makes no key, proves nothing and its connection is open.
func (h *hatchery) onboard(ctx context.Context, b *bench) error {
	store, err := h.store(ctx)
	if err != nil {
		return err
	}
	g, err := openGround(ctx, b)
	if err != nil {
		return err
	}
	defer g.close()
	// Two catalogs, so that one never has a ready database.
	with, err := g.openHouse(ctx, "freehold_ready", fleet.Config{Blob: store})
	if err != nil {
		return err
	}
	without, err := g.openHouse(ctx, "freehold_plain", fleet.Config{Blob: store})
	if err != nil {
		return err
	}
	peer, err := g.openBeginner(ctx, migrations.Tenant())
	if err != nil {
		return err
	}
	each := min(claims, (maxReady-1)/b.opt.rounds)
	if each < 1 {
		return fmt.Errorf("no more than %d rounds: a server keeps %d ready databases", maxReady-1, maxReady)
	}
	b.progress("making %d ready databases", each*b.opt.rounds+1)
	if err := with.prepareReady(ctx, each*b.opt.rounds+1); err != nil {
		return err
	}
	// The first of each finds everything cold.
	if err := errors.Join(with.create(ctx), without.create(ctx), peer.tenant(ctx)); err != nil {
		return err
	}
	claim := repeated("claim", span{each, each}, with.create)
	whole := repeated("whole onboarding by clone", makes, without.create)
	plain := repeated("role + CREATE DATABASE + goose + grants", makes, peer.tenant)
	if err := b.play(ctx, "onboard", claim, whole, plain); err != nil {
		return err
	}
	left, err := with.countReady(ctx)
	if err != nil {
		return err
	}
	if left != 0 {
		return fmt.Errorf("%w: %d are left", errNotClaimed, left)
	}
	return errors.Join(
		b.emitSpeedup("claim_speedup", atLeast(50), pair{claim, plain}),
		b.emitSpeedup("clone_whole", nil, pair{whole, plain}),
	)
}

// clone sets a clone of the sealed template beside a new database and goose: with
// the product's own migrations, and with thirty more, as many as a product has
// after a year.
func (h *hatchery) clone(ctx context.Context, b *bench) error {
	g, err := openGround(ctx, b)
	if err != nil {
		return err
	}
	defer g.close()
	var pairs []pair
	for _, c := range []struct {
		name string
		set  migrations.Set
	}{
		{"clone", migrations.Tenant()},
		{"clone30", migrations.Tenant().With(further(30))},
	} {
		p, err := g.openRace(ctx, c.name, c.set)
		if err != nil {
			return err
		}
		pairs = append(pairs, p)
	}
	// The first of each finds everything cold.
	for _, s := range sides(pairs...) {
		if _, err := s.turn(ctx, 0, 0); err != nil {
			return err
		}
	}
	if err := b.play(ctx, "clone", sides(pairs...)...); err != nil {
		return err
	}
	return errors.Join(
		b.emitSpeedup("clone_speedup", atLeast(3), pairs[0]),
		b.emitSpeedup("clone_speedup_30", atLeast(3), pairs[1]),
	)
}

// openRace makes the set's template, and a pair of sides that make databases with
// it and without.
func (g *ground) openRace(ctx context.Context, name string, set migrations.Set) (p pair, err error) {
	if _, err := g.openHouse(ctx, "freehold_"+name, fleet.Config{Tenant: set}); err != nil {
		return p, err
	}
	template, err := g.template(ctx, set)
	if err != nil {
		return p, err
	}
	peer, err := g.openBeginner(ctx, set)
	if err != nil {
		return p, err
	}
	files, err := fs.Glob(set.FS, "*.sql")
	if err != nil {
		return p, err
	}
	cloned := 0
	return pair{
		repeated("clone", makes, func(ctx context.Context) error {
			cloned++
			return cloneDatabase(ctx, peer.admin, fmt.Sprintf("%s_%05d", name, cloned), template)
		}),
		repeated(fmt.Sprintf("CREATE DATABASE + goose, %d migrations", len(files)), makes, peer.database),
	}, nil
}

// further are n small migrations, behind the product's own.
func further(n int) fs.FS {
	files := fstest.MapFS{}
	for i := 1; i <= n; i++ {
		schema := ""
		if i == 1 {
			schema = "create schema bench;\ngrant usage on schema bench to freehold_tenant;\n"
		}
		files[fmt.Sprintf("9%04d_bench.sql", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, `-- +goose Up
%screate table bench.things_%d (
    id      bigint generated always as identity primary key,
    name    text not null,
    made_at timestamptz not null default now()
);
grant select, insert on bench.things_%[2]d to freehold_tenant;
`, schema, i)}
	}
	return files
}

// template is the database that fleet has sealed for the set.
func (g *ground) template(ctx context.Context, set migrations.Set) (name string, err error) {
	version, err := set.Latest()
	if err != nil {
		return "", err
	}
	err = g.super.QueryRow(ctx, `select datname from pg_database
		where datistemplate and not datallowconn and datname ^@ $1`, fmt.Sprintf("freehold_template_%d_", version)).Scan(&name)
	if err != nil {
		return "", fmt.Errorf("look for the template: %w", err)
	}
	return name, nil
}

// cloneDatabase says what fleet says.
func cloneDatabase(ctx context.Context, admin *pgx.Conn, name, template string) error {
	_, err := admin.Exec(ctx, "create database "+ident(name)+" template "+ident(template)+
		" owner "+ident(migrations.RoleOwner)+" allow_connections false")
	return err
}

// beginner makes tenants in the way that everybody begins with.
type beginner struct {
	ground   *ground
	set      migrations.Set
	admin    *pgx.Conn // on database postgres
	verifier string    // of everybody's password
	name     string
	made     int
}

func (g *ground) openBeginner(ctx context.Context, set migrations.Set) (*beginner, error) {
	p := &beginner{ground: g, set: set, name: fmt.Sprintf("begin%d", len(g.conns))}
	cfg, err := g.adminConfig("postgres")
	if err != nil {
		return nil, err
	}
	// As fleet does: each statement is sent once, and not prepared.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	if p.admin, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		return nil, err
	}
	g.conns = append(g.conns, p.admin)
	// Hashing a password takes the server milliseconds, of which fleet spares it the
	// most: the peer is spared them all.
	hashed := ident(p.name)
	if _, err := g.super.Exec(ctx, "create role "+hashed+" password '"+newPassword()+"'"); err != nil {
		return nil, err
	}
	err = g.super.QueryRow(ctx, `select rolpassword from pg_authid where rolname = $1`, p.name).Scan(&p.verifier)
	return p, err
}

func (p *beginner) next() string {
	p.made++
	return fmt.Sprintf("%s_%05d", p.name, p.made)
}

// tenant makes a role and its database.
func (p *beginner) tenant(ctx context.Context) error {
	name := p.next()
	if err := p.exec(ctx, "create role "+ident(name)+" login password '"+p.verifier+"'"); err != nil {
		return err
	}
	if err := p.create(ctx, name); err != nil {
		return err
	}
	return p.exec(ctx,
		"grant "+ident(migrations.RoleTenant)+" to "+ident(name),
		"revoke all on database "+ident(name)+" from public",
		"grant connect on database "+ident(name)+" to "+ident(name))
}

// database makes a database alone.
func (p *beginner) database(ctx context.Context) error { return p.create(ctx, p.next()) }

func (p *beginner) create(ctx context.Context, name string) error {
	if err := p.exec(ctx, "create database "+ident(name)+" template template0 encoding 'UTF8' owner "+
		ident(migrations.RoleOwner)); err != nil {
		return err
	}
	cfg, err := p.ground.adminConfig(name)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["role"] = migrations.RoleOwner
	_, err = migrations.Apply(ctx, cfg, p.set)
	return err
}

func (p *beginner) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := p.admin.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }
