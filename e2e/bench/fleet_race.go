package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // database/sql's name of pgx, as goose's users have it
	"github.com/pressly/goose/v3"
	"golang.org/x/sync/errgroup"

	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

// race is a few tenants, and for each peer as many databases that are the same.
type race struct {
	*harbour
	goose, raw *team
}

// team is one peer's databases.
type team struct {
	urls    []string // to log in as tenants' owner
	made    int      // version that they were made with
	version int      // that all of them have
}

// raced opens the race. Each side has migrated once, since the first time finds
// everything cold.
func (y *shipyard) raced(ctx context.Context, b *bench) (*race, error) {
	if y.race != nil {
		return y.race, nil
	}
	h, err := y.fewTenants(ctx, b)
	if err != nil {
		return nil, err
	}
	b.progress("making %d databases for goose, and as many for raw pgx", len(h.tenants))
	r := &race{harbour: h}
	if r.goose, err = h.openTeam(ctx, "goose", len(h.tenants)); err != nil {
		return nil, err
	}
	if r.raw, err = h.openTeam(ctx, "raw", len(h.tenants)); err != nil {
		return nil, err
	}
	for _, s := range []*side{h.rolledOut("", 4), r.provided(4), r.transacted(4)} {
		if _, err := s.turn(ctx, 0, 0); err != nil {
			return nil, err
		}
	}
	y.race = r
	return r, nil
}

// openTeam clones the first tenant as it is now.
func (h *harbour) openTeam(ctx context.Context, name string, n int) (*team, error) {
	t := &team{made: h.version, version: h.version}
	for i := range n {
		database := fmt.Sprintf("%s_%05d", name, i)
		if _, err := h.super.Exec(ctx, "create database "+ident(database)+" template "+ident(h.tenants[0].Database)+
			" owner "+ident(migrations.RoleOwner)); err != nil {
			return nil, err
		}
		at, err := h.ownerURL(database)
		if err != nil {
			return nil, err
		}
		t.urls = append(t.urls, at)
	}
	return t, nil
}

// ownerURL is how Freehold's migrations log in on a database, password included.
func (g *ground) ownerURL(database string) (string, error) {
	u, err := url.Parse(g.adminURL(database))
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("role", migrations.RoleOwner)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// migrate brings all databases of the team one version further, so many at once; one
// does so with one of them. It returns databases a second.
func (t *team) migrate(ctx context.Context, workers int, one func(ctx context.Context, url string, version int) error) (float64, error) {
	t.version++
	began := time.Now()
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(workers)
	for _, url := range t.urls {
		all.Go(func() error { return one(ctx, url, t.version) })
	}
	err := all.Wait()
	return rate(len(t.urls), time.Since(began)), err
}

// provided is goose's Provider on a pool of its own for each database, and nothing
// besides.
func (r *race) provided(workers int) *side {
	return &side{name: fmt.Sprintf("goose's Provider, %d workers", workers), turn: func(ctx context.Context, _ int, _ time.Duration) (float64, error) {
		files := r.goose.nextFiles()
		return r.goose.migrate(ctx, workers, func(ctx context.Context, url string, version int) error {
			return provide(ctx, url, files, version)
		})
	}}
}

// nextFiles are the product's migrations up to the next, without those that the
// databases were made with.
func (t *team) nextFiles() fs.FS {
	files := fstest.MapFS{}
	for v := t.made + 1; v <= t.version+1; v++ {
		name, body := productFile(v)
		files[name] = &fstest.MapFile{Data: []byte(body)}
	}
	return files
}

func provide(ctx context.Context, url string, files fs.FS, version int) (err error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		return err
	}
	done, err := provider.Up(ctx)
	if err == nil && (len(done) != 1 || done[0].Source.Version != int64(version)) {
		err = fmt.Errorf("%w: goose applied %d migrations", errNotMigrated, len(done))
	}
	return err
}

// transacted is the least there is: a connection, a transaction, and nobody who knows
// afterwards.
func (r *race) transacted(workers int) *side {
	return &side{name: fmt.Sprintf("raw pgx, %d workers", workers), turn: func(ctx context.Context, _ int, _ time.Duration) (float64, error) {
		return r.raw.migrate(ctx, workers, func(ctx context.Context, url string, version int) (err error) {
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, conn.Close(ctx)) }()
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, nextStatements(version))
				return err
			})
		})
	}}
}

// versusGoose sets whole rollouts, with locks, status and all that a resumption needs,
// beside goose's Provider bare.
func (y *shipyard) versusGoose(ctx context.Context, b *bench, workers int) error {
	r, err := y.raced(ctx, b)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("vs_goose_%d", workers)
	whole := r.rolledOut(fmt.Sprintf("rollout, %d workers", workers), workers)
	provider, raw := r.provided(workers), r.transacted(workers)
	if err := b.play(ctx, name, whole, provider, raw); err != nil {
		return err
	}
	return errors.Join(
		b.emitRate(name, atLeast(0.85), pair{whole, provider}),
		b.emitRate(fmt.Sprintf("raw_%d", workers), nil, pair{whole, raw}),
	)
}

// emitRate is the ratio of a pair that returns databases a second.
func (b *bench) emitRate(name string, g *goal, p pair) error {
	return b.emit(name, "ratio", g, p.ratios(), fmt.Sprintf("%s %s, %s %s databases/s",
		p.subject.name, figure(median(p.subject.rounds)), p.peer.name, figure(median(p.peer.rounds))))
}

// fingerprint sets a tenant's fingerprint, with its connection, beside a connection
// that asks nothing.
func (y *shipyard) fingerprint(ctx context.Context, b *bench) error {
	h, err := y.fewTenants(ctx, b)
	if err != nil {
		return err
	}
	configs := make([]*pgx.ConnConfig, len(h.tenants))
	for i, t := range h.tenants {
		at, err := h.ownerURL(t.Database)
		if err != nil {
			return err
		}
		if configs[i], err = pgx.ParseConfig(at); err != nil {
			return err
		}
		configs[i].DefaultQueryExecMode = pgx.QueryExecModeExec // as fleet does
	}
	visitor := func(name string, do func(context.Context, *pgx.Conn) error) *side {
		next := 0
		return repeated(name, span{5, 1000}, func(ctx context.Context) error {
			conn, err := pgx.ConnectConfig(ctx, configs[next%len(configs)])
			if err != nil {
				return err
			}
			next++
			return errors.Join(do(ctx, conn), conn.Close(ctx))
		})
	}
	look := visitor("connect, fingerprint, close", func(ctx context.Context, conn *pgx.Conn) error {
		_, _, err := fleet.Fingerprint(ctx, conn)
		return err
	})
	connect := visitor("connect, close", func(context.Context, *pgx.Conn) error { return nil })
	if err := b.play(ctx, "fingerprint", look, connect); err != nil {
		return err
	}
	return b.emit("fingerprint", "ratio", atMost(4), ratios(look.rounds, connect.rounds),
		fmt.Sprintf("%s / %s ms", figure(median(look.rounds)), figure(median(connect.rounds))))
}
