package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/migrations/localpg"
	"freehold/tenantdb/fleet"
)

// What -tenants means here, so that its default is the whole of it.
const (
	inARow    = 2   // tenants made in a row, for each of -tenants
	rowsAlone = 200 // tenants that are rows alone, for each
)

// hatchery is what the contests of onboarding share: the folder for what they
// build, and the object store. Each contest has a Postgres server of its own, so
// that nobody's databases are in another's way.
type hatchery struct {
	folder string
	s3     *objectStore // nil until somebody needs it
}

func onboardingContests(_ context.Context, b *bench) ([]contest, func(), error) {
	clearEnvironment()
	folder, err := os.MkdirTemp("", "freehold-bench-onboarding-")
	if err != nil {
		return nil, nil, err
	}
	b.progress("%s", machine())
	h := &hatchery{folder: folder}
	return []contest{
		{"onboard", []string{"claim_speedup", "clone_whole"}, h.onboard},
		{"clone", []string{"clone_speedup", "clone_speedup_30"}, h.clone},
		{"bulk", []string{"bulk_decay"}, h.bulk},
		{"registered", []string{"catalog_100k_mb"}, h.registered},
		{"status", []string{"status_2000"}, h.status},
	}, h.close, nil
}

func (h *hatchery) close() {
	if h.s3 != nil {
		h.s3.stop()
	}
	_ = os.RemoveAll(h.folder)
}

// build compiles one of our commands.
func (h *hatchery) build(ctx context.Context, path string) (program string, err error) {
	program = filepath.Join(h.folder, filepath.Base(path))
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, path).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	return program, nil
}

// ground is a Postgres server without tenants. Close it.
type ground struct {
	*platform
	password string // adminName's
	conns    []*pgx.Conn
	catalogs []*catalog.Catalog
}

func openGround(ctx context.Context, b *bench) (_ *ground, err error) {
	folder, err := os.MkdirTemp("", "freehold-bench-")
	if err != nil {
		return nil, err
	}
	g := &ground{platform: &platform{folder: folder}, password: newPassword()}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	g.server, err = localpg.Start(ctx, localpg.Config{DataDir: folder, MaxConnections: maxConnections})
	if err != nil {
		return nil, err
	}
	if g.super, err = pgx.Connect(ctx, g.server.URL("postgres")); err != nil {
		return nil, err
	}
	b.progress("%s", g.describe(ctx))
	return g, g.server.Bootstrap(ctx, adminName, g.password)
}

func (g *ground) close() {
	// The run may have been interrupted, and this must be done all the same.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, conn := range g.conns {
		_ = conn.Close(ctx)
	}
	for _, cat := range g.catalogs {
		cat.Close()
	}
	g.platform.close()
}

func (g *ground) address() string { return "127.0.0.1:" + strconv.Itoa(g.server.Port()) }

// adminURL is how the admin logs in on a database, password included.
func (g *ground) adminURL(database string) string {
	return (&url.URL{Scheme: "postgres", User: url.UserPassword(adminName, g.password), Host: g.address(),
		Path: "/" + database, RawQuery: "sslmode=disable"}).String()
}

// adminConfig is the same for pgx.
func (g *ground) adminConfig(database string) (*pgx.ConnConfig, error) {
	return pgx.ParseConfig(g.adminURL(database))
}

// openCatalog makes a catalog.
func (g *ground) openCatalog(ctx context.Context, name string, keys *catalog.Keyset) (*catalog.Catalog, error) {
	cfg := catalog.Config{Keyset: keys, URL: g.adminURL(name)}
	if _, _, err := catalog.Migrate(ctx, cfg); err != nil {
		return nil, err
	}
	cat, err := catalog.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	g.catalogs = append(g.catalogs, cat)
	return cat, nil
}

// serverName is what the ground's server goes by in every catalog.
const serverName = "bench"

// house is a catalog with its fleet, whose only server is the ground's.
type house struct {
	cat   *catalog.Catalog
	keys  *catalog.Keyset
	fleet *fleet.Fleet
	made  int // tenants, by create
}

func (g *ground) openHouse(ctx context.Context, name string, cfg fleet.Config) (*house, error) {
	keys, err := catalog.NewKeyset()
	if err != nil {
		return nil, err
	}
	cat, err := g.openCatalog(ctx, name, keys)
	if err != nil {
		return nil, err
	}
	cfg.Catalog = cat
	fl, err := fleet.New(cfg)
	if err != nil {
		return nil, err
	}
	_, err = fl.AddServer(ctx, fleet.ServerAdd{
		Name: serverName, Password: g.password,
		URL: "postgres://" + adminName + "@" + g.address() + "/postgres?sslmode=disable",
		// How many fit on this machine isn't the question.
		MaxRecovery: 24 * 60 * 60,
	})
	return &house{cat: cat, keys: keys, fleet: fl}, err
}

// create onboards one more tenant, to whom a welcome mail is owed.
func (h *house) create(ctx context.Context) error {
	slug := fmt.Sprintf("tenant-%05d", h.made)
	h.made++
	_, _, err := h.fleet.Create(ctx, catalog.TenantSpec{Slug: slug, Email: slug + "@example.com", Actor: "bench"})
	return err
}

// prepareReady makes n ready databases.
func (h *house) prepareReady(ctx context.Context, n int) error {
	if _, err := h.cat.SetServer(ctx, serverName, catalog.ServerPatch{Ready: &n}); err != nil {
		return err
	}
	return h.fleet.RefillReady(ctx)
}

func (h *house) countReady(ctx context.Context) (int, error) {
	list, err := h.cat.ReadyDatabases(ctx, serverName)
	n := 0
	for _, r := range list {
		if r.State == "ready" {
			n++
		}
	}
	return n, err
}

// span says how often repeat does its work: as long as its time lasts, within
// these.
type span struct{ least, most int }

// repeat returns the median of how long one doing took, in milliseconds.
func repeat(ctx context.Context, d time.Duration, s span, do func(context.Context) error) (float64, error) {
	var took []float64
	for end := time.Now().Add(d); len(took) < s.least || len(took) < s.most && time.Now().Before(end); {
		if err := ctx.Err(); err != nil {
			return math.NaN(), err
		}
		began := time.Now()
		if err := do(ctx); err != nil {
			return math.NaN(), err
		}
		took = append(took, float64(time.Since(began))/float64(time.Millisecond))
	}
	return median(took), nil
}

// repeated is a side that repeats one thing.
func repeated(name string, s span, do func(context.Context) error) *side {
	return &side{name: name, turn: func(ctx context.Context, _ int, d time.Duration) (float64, error) {
		return repeat(ctx, d, s, do)
	}}
}

// emitSpeedup is how many times quicker the subject is, of sides that return how
// long they took.
func (b *bench) emitSpeedup(name string, g *goal, p pair) error {
	return b.emit(name, "ratio", g, ratios(p.peer.rounds, p.subject.rounds), fmt.Sprintf("%s %s ms, %s %s ms",
		p.subject.name, figure(median(p.subject.rounds)), p.peer.name, figure(median(p.peer.rounds))))
}

// errNotClaimed says that what should have been a claim was something else.
var errNotClaimed = errors.New("ready databases weren't claimed")

// latest is the version of the product's own tenants.
func latest() (int64, error) { return migrations.Tenant().Latest() }
