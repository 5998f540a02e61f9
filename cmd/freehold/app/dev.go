package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations/localpg"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// stopTime bounds how long dev's own parts may take to stop.
const stopTime = 2 * time.Second

// What dev calls its parts.
const (
	devServer  = "local"
	devAdmin   = "freehold_admin"
	devCatalog = "freehold"
	devBucket  = "freehold"
)

// Demo is what Dev makes, and whom it tells.
type Demo struct {
	Tenants  int                   // at least acme and globex
	Out      io.Writer             // gets what a person should know
	Progress func(done, total int) // of the tenants, from several goroutines; nil: nobody asks
}

// Dev runs all parts on this machine until ctx ends: a private Postgres, an
// object store, tenants acme and globex (and more, when demo says so) and a node.
// Data, keys and secrets lie under cfg.DataDir and survive.
func Dev(ctx context.Context, cfg Config, version string, demo Demo, log *slog.Logger) (err error) {
	began := time.Now()
	if err := cfg.Check(NeedAddresses); err != nil {
		return err
	}
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	// Postgres may run as another user, who has to reach its folder below this one.
	if err := os.MkdirAll(cfg.DataDir, 0o711); err != nil { //nolint:gosec // what is secret in it has mode 0600
		return fmt.Errorf("data directory: %w", err)
	}
	for _, p := range []*string{&cfg.TLSCert, &cfg.TLSKey, &cfg.MasterKeyFile} { // the object store changes the working directory
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return fmt.Errorf("working directory: %w", err)
			}
		}
	}
	if err := forgetShell(); err != nil {
		return err
	}
	// A taken port is found before anything is started.
	apiLn, adminLn, err := listen(cfg)
	if err != nil {
		return err
	}
	_, _ = apiLn.Close(), adminLn.Close()

	cfg.Drain = devDrain
	d := &dev{cfg: cfg, log: log, out: demo.Out}
	defer func() { err = errors.Join(err, d.stop(context.WithoutCancel(ctx))) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	demo.Tenants = max(demo.Tenants, keyedTenants)
	keys, err := d.populate(ctx, demo)
	if err != nil {
		return err
	}
	if err := d.writeEnv(keys); err != nil {
		return err
	}
	err = Serve(ctx, d.cfg, version, true, log, func(_, _ net.Addr) { d.greet(demo.Tenants, time.Since(began)) })
	if ctx.Err() != nil {
		fmt.Fprintln(d.out, "stopping")
	}
	return err
}

// dev is what Dev has started.
type dev struct {
	cfg Config
	log *slog.Logger
	out io.Writer

	pg   *localpg.Server
	s3   *localS3
	user s3User
}

func (d *dev) path(name string) string { return filepath.Join(d.cfg.DataDir, name) }

// start brings up Postgres and the object store, and migrates the catalog.
func (d *dev) start(ctx context.Context) error {
	var err error
	if d.user, err = keepS3User(d.path("s3-user.json")); err != nil {
		return err
	}
	d.pg, err = localpg.Start(ctx, localpg.Config{
		DataDir: d.path("postgres"), MaxConnections: 300, Logger: d.log, Notice: d.out,
	})
	if err != nil {
		return err
	}
	password, err := keepSecret(d.path("postgres-admin.secret"))
	if err != nil {
		return err
	}
	if err := d.pg.Bootstrap(ctx, devAdmin, password); err != nil {
		return err
	}
	admin, err := url.Parse(d.pg.URL(devCatalog))
	if err != nil {
		return errors.New("local Postgres: its URL can't be read")
	}
	admin.User = url.UserPassword(devAdmin, password)
	d.cfg.CatalogURL = admin.String()

	known, err := readEnv(d.path(devEnvFile))
	if err != nil {
		return err
	}
	before := strings.TrimPrefix(known["FREEHOLD_S3_ENDPOINT"], "http://")
	if d.s3, err = startS3(ctx, d.path("s3"), before, d.user); err != nil {
		return err
	}
	d.cfg.S3Endpoint, d.cfg.S3Bucket = d.s3.endpoint, devBucket
	// Never what the shell says: demo tenants have nobody's addresses.
	d.cfg.Mail = Mail{URL: (&url.URL{Scheme: "file", Path: d.path("mail")}).String(), From: "Freehold <freehold@localhost>"}
	for k, v := range d.awsEnv() {
		if err := os.Setenv(k, v); err != nil { // where the AWS SDK looks
			return fmt.Errorf("object store: %w", err)
		}
	}
	if _, err := blob.Open(ctx, blob.Config{Endpoint: d.cfg.S3Endpoint, Bucket: devBucket}, true); err != nil {
		return err
	}
	if d.cfg.MasterKeyFile == "" {
		d.cfg.MasterKeyFile = d.path("master.key")
	}
	d.cfg.AdminTokenFile = d.path("admin.token")
	if _, err := keepSecret(d.cfg.AdminTokenFile); err != nil {
		return err
	}
	if _, _, _, err := MigrateCatalog(ctx, d.cfg, d.log); err != nil {
		return err
	}
	p, err := Open(ctx, d.cfg, NeedCatalog, d.log)
	if err != nil {
		return err
	}
	defer p.Close()
	admin.User, admin.Path = url.User(devAdmin), "/postgres"
	_, err = p.Fleet.AddServer(ctx, fleet.ServerAdd{Name: devServer, URL: admin.String(), Password: password})
	return err
}

func (d *dev) awsEnv() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID": d.user.Access, "AWS_SECRET_ACCESS_KEY": d.user.Secret, "AWS_REGION": "us-east-1",
	}
}

// devModels are the built-in engine's.
var devModels = []catalog.Model{
	{Name: "freehold-answer-1", Engine: "builtin", Upstream: "freehold-answer-1", Kind: "chat", Trainer: "builtin"},
	{Name: "freehold-embed-1", Engine: "builtin", Upstream: "freehold-embed-1", Kind: "embedding"},
}

// addDevModels adds those that aren't there. One that was added by a release that
// fine-tuned nothing gets its trainer.
func addDevModels(ctx context.Context, cat *catalog.Catalog) error {
	have, err := cat.Models(ctx)
	if err != nil {
		return err
	}
	for _, m := range devModels {
		i := slices.IndexFunc(have, func(h catalog.Model) bool { return h.Name == m.Name })
		switch {
		case i < 0:
			_, err = cat.AddModel(ctx, m)
		case have[i].Trainer == "" && m.Trainer != "" && have[i].Engine == m.Engine:
			_, err = cat.SetModel(ctx, m.Name, catalog.ModelPatch{Trainer: &m.Trainer})
		}
		if err != nil && !errors.Is(err, catalog.ErrExists) { // as an alias
			return err
		}
	}
	return nil
}

// populate makes what isn't there yet: the built-in engine and its models, the
// tenants, a key for each of the first two. It returns those keys.
func (d *dev) populate(ctx context.Context, demo Demo) (map[string]string, error) {
	p, err := Open(ctx, d.cfg, NeedCatalog|NeedS3, d.log)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if _, err := p.Catalog.AddEngine(ctx, catalog.EngineSpec{Name: "builtin", Kind: "builtin"}); err != nil && !errors.Is(err, catalog.ErrExists) {
		return nil, err
	}
	if err := addDevModels(ctx, p.Catalog); err != nil {
		return nil, err
	}
	if err := p.Fleet.Upgrade(ctx, "dev"); err != nil {
		d.log.Warn("not every tenant's database is at this binary's schema: see freehold migrate status")
	}
	known, err := readEnv(d.path(devEnvFile))
	if err != nil {
		return nil, err
	}
	made, err := d.tenants(ctx, p, demo)
	if err != nil {
		return nil, err
	}
	keys := map[string]string{}
	for i := range keyedTenants {
		slug := devTenant(i)
		name := strings.ToUpper(slug) + "_API_KEY"
		key := made[i]
		if key == "" {
			key = known[name]
		}
		if key == "" { // dev.env was deleted
			t, err := p.Catalog.TenantBySlug(ctx, slug)
			if err != nil {
				return nil, err
			}
			if _, key, err = p.Catalog.CreateKey(ctx, t.ID, catalog.KeySpec{Name: "dev", Scopes: []string{catalog.ScopeAll}}); err != nil {
				return nil, err
			}
		}
		keys[name] = key
	}
	return keys, nil
}

const (
	// tenantsAtOnce is how many demo tenants are made at a time.
	tenantsAtOnce = 4
	// aFew tenants are made before anybody wonders what takes so long.
	aFew = 5
)

// tenants makes those that aren't there yet and returns their keys, in order.
func (d *dev) tenants(ctx context.Context, p *Platform, demo Demo) ([]string, error) {
	keys := make([]string, demo.Tenants)
	progress := demo.Progress
	if progress == nil || demo.Tenants <= aFew {
		progress = func(int, int) {}
	}
	progress(0, demo.Tenants)
	var done atomic.Int64
	var group errgroup.Group
	group.SetLimit(tenantsAtOnce)
	for i := range demo.Tenants {
		group.Go(func() (err error) {
			if keys[i], err = d.tenant(ctx, p, devTenant(i)); err != nil {
				return fmt.Errorf("tenant %s: %w", devTenant(i), err)
			}
			progress(int(done.Add(1)), demo.Tenants)
			return nil
		})
	}
	return keys, group.Wait()
}

// tenant makes a tenant and returns its key; "" when it was there.
func (d *dev) tenant(ctx context.Context, p *Platform, slug string) (string, error) {
	if t, err := p.Catalog.TenantBySlug(ctx, slug); err == nil && t.State != catalog.Provisioning {
		return "", nil
	} else if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return "", err
	}
	name := strings.ToUpper(slug[:1]) + slug[1:]
	_, key, err := p.Fleet.Create(ctx, catalog.TenantSpec{Slug: slug, Name: name, Email: slug + "@example.com", Actor: "freehold dev"})
	return key, err
}

// keyedTenants is how many of the demo tenants have a key in dev.env.
const keyedTenants = 2

// devTenant names the i-th demo tenant.
func devTenant(i int) string {
	switch i {
	case 0:
		return "acme"
	case 1:
		return "globex"
	default:
		return fmt.Sprintf("tenant-%04d", i+1)
	}
}

func (d *dev) scheme() string {
	if d.cfg.TLSCert != "" {
		return "https://"
	}
	return "http://"
}

// writeEnv writes dev.env: a second terminal is one `source` away.
func (d *dev) writeEnv(keys map[string]string) error {
	token, err := readSecret(d.cfg.AdminTokenFile)
	if err != nil {
		return err
	}
	base := d.scheme() + d.cfg.Listen
	return writeEnv(d.path(devEnvFile), []envVar{
		{"FREEHOLD_URL", base},
		{"FREEHOLD_ADMIN_URL", d.scheme() + d.cfg.AdminListen},
		{"FREEHOLD_ADMIN_TOKEN", token},
		{"FREEHOLD_ADMIN_TOKEN_FILE", d.cfg.AdminTokenFile},
		{"FREEHOLD_CATALOG_URL", d.cfg.CatalogURL},
		{"FREEHOLD_MASTER_KEY_FILE", d.cfg.MasterKeyFile},
		{"FREEHOLD_S3_ENDPOINT", d.cfg.S3Endpoint},
		{"FREEHOLD_S3_BUCKET", d.cfg.S3Bucket},
		{"AWS_ACCESS_KEY_ID", d.user.Access},
		{"AWS_SECRET_ACCESS_KEY", d.user.Secret},
		{"AWS_REGION", "us-east-1"},
		{"ACME_API_KEY", keys["ACME_API_KEY"]},
		{"GLOBEX_API_KEY", keys["GLOBEX_API_KEY"]},
		{"OPENAI_BASE_URL", base + "/v1"},
		{"OPENAI_API_KEY", keys["ACME_API_KEY"]},
	})
}

// stop stops what start started; nothing uses either part any more.
func (d *dev) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	var parts errgroup.Group
	if d.s3 != nil {
		parts.Go(func() error { return d.s3.close(ctx) })
	}
	if d.pg != nil {
		parts.Go(func() error { return d.pg.Stop(ctx) })
	}
	return parts.Wait()
}

// forgetShell clears what libpq's and the AWS SDK's variables of the shell would
// say: dev's server and store are its own, and a profile, a session token or a
// service file would lead elsewhere or stand in the way.
func forgetShell() error {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "AWS_") {
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("clear %s: %w", name, err)
			}
		}
	}
	return nil
}

// relative shortens a path for a person, where that is shorter.
func relative(path string) string {
	wd, ok := os.LookupEnv("PWD")
	if !ok {
		return path
	}
	if rel, err := filepath.Rel(wd, path); err == nil && fs.ValidPath(rel) {
		return rel
	}
	return path
}
