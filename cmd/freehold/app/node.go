package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/cmd/freehold/admin"
	"freehold/cmd/freehold/api"
	"freehold/cmd/freehold/metrics"
	"freehold/cmd/freehold/rest"
	"freehold/migrations"
	"freehold/router"
)

// Serve runs a node: both doors, and the workers unless told not to. It returns
// nil when ctx ends and everything has stopped. ready, when not nil, is called
// once with the doors' addresses after both listen.
func Serve(ctx context.Context, cfg Config, version string, workers bool, log *slog.Logger, ready func(api, admin net.Addr)) error {
	need := NeedCatalog | NeedS3 | NeedDoors | NeedMail
	if workers {
		need |= NeedWorkers
	}
	if err := cfg.Check(need); err != nil {
		return err
	}
	token, err := readSecret(cfg.AdminTokenFile)
	if err != nil {
		return err
	}
	p, err := Open(ctx, cfg, NeedCatalog|NeedS3, log)
	if err != nil {
		return err
	}
	defer p.Close()
	apiLn, adminLn, err := listen(cfg)
	if err != nil {
		return err
	}
	defer func() { _, _ = apiLn.Close(), adminLn.Close() }()
	tr, err := openTracing(ctx, cfg.Telemetry, version, log)
	if err != nil {
		return err
	}
	n, err := newNode(p, cfg, version, token, tr, log)
	if err != nil {
		return errors.Join(err, tr.close(ctx))
	}
	return n.run(ctx, p, workers, apiLn, adminLn, ready)
}

// node is the composed parts of one serving process.
type node struct {
	cfg     Config
	catalog *catalog.Catalog
	cache   *catalog.Cache
	router  *router.Router
	shares  *shares
	api     *rest.Door
	admin   *rest.Door
	tracing *tracing // nil: none
	log     *slog.Logger
	drain   time.Duration // how long what is under way may go on when the node stops

	pipeline *pipeline
	health   *waveHealth
	finish   func(ctx context.Context) // ends what works behind requests
}

func newNode(p *Platform, cfg Config, version, token string, tr *tracing, log *slog.Logger) (*node, error) {
	set, err := cfg.Routing.parse()
	if err != nil {
		return nil, fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	drain, err := cfg.drain()
	if err != nil {
		return nil, fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	name, err := processName()
	if err != nil {
		return nil, err
	}
	latest, err := migrations.Tenant().Latest()
	if err != nil {
		return nil, err
	}
	said := &health{}
	cache := catalog.NewCache(p.Catalog, catalog.CacheConfig{
		NodeName: name, Version: version, StaleServe: set.staleServe, Logger: log, Health: said.text,
		SchemaMin: minSchema, SchemaMax: latest,
	})
	sh := newShares(cache.DeadAfter(), log)
	sh.ask, sh.drop = cache.Share, p.Fleet.DropSilentShare
	rt, err := newRouter(p, cache, sh, set, tr, latest, log)
	if err != nil {
		return nil, err
	}
	said.router = rt
	eng := &engines{cat: p.Catalog, cache: cache, log: log, made: map[string]madeEngine{}}
	m := metrics.New(version, rt.View)
	inf, err := newPipeline(p, cache, rt, eng, m, log)
	if err != nil {
		return nil, err
	}
	readyCheck := func(context.Context) error {
		if !cache.Ready() {
			return catalog.ErrUnavailable
		}
		return nil
	}
	wh, err := newWaveHealth(p.Catalog, cache, log)
	if err != nil {
		return nil, err
	}
	tuning, err := newTuning(p, cache, inf.Service, log)
	if err != nil {
		return nil, err
	}
	n := &node{cfg: cfg, catalog: p.Catalog, cache: cache, router: rt, shares: sh, pipeline: inf, health: wh, tracing: tr, log: log, drain: drain}
	m.Breakers(eng.breakers)
	m.Work(p.Catalog.Work)
	m.Upkeep(p.Catalog.UpkeepFigures)
	n.api, err = api.New(api.Config{
		Cache: cache, Router: rt, Inference: inf.Service, Tuning: tuning, Objects: tenantObjects(p), Due: p.Catalog.MarkDue, Keys: tenantKeys(p), Audits: tenantAudits(p), Exports: tenantExports(p), Ready: readyCheck, Logger: log, Version: version,
		DatabaseWait: set.queueWait + set.pauseWait + statementTime,
	})
	if err != nil {
		return nil, err
	}
	n.admin, err = admin.New(admin.Config{
		Catalog: p.Catalog, Cache: cache, Fleet: p.Fleet, Router: rt, Token: token,
		Ready: readyCheck, Metrics: m.Text, NodeName: name, Logger: log, Version: version,
	})
	if err != nil {
		return nil, err
	}
	n.api.ObserveTenants(wh.count)
	for name, door := range map[string]*rest.Door{"api": n.api, "admin": n.admin} {
		door.Observe(m.Door(name))
		door.LetStreams(drain)
		if tr != nil {
			door.Trace(tr.requests())
		}
	}
	return n, nil
}

// tenantKeys is what the tenants' door does with keys.
func tenantKeys(p *Platform) api.Keys {
	return api.Keys{
		List: p.Catalog.Keys, Create: p.Catalog.CreateKey, Revoke: p.Fleet.RevokeKey, Audit: p.Catalog.AppendAudit,
	}
}

// tenantAudits is what the tenants' door verifies audits by.
func tenantAudits(p *Platform) api.Audits {
	return api.Audits{Head: p.Catalog.AuditHead, Verify: p.Catalog.VerifyAuditSignature, PublicKeys: p.Catalog.AuditPublicKeys}
}

// tenantExports is what tenants take their data along by.
func tenantExports(p *Platform) api.Exports {
	return api.Exports{Begin: p.Fleet.BeginExport, Get: p.Catalog.Export, List: p.Catalog.Exports}
}

// processName is how a process is listed.
func processName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("node name: %w", err)
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid()), nil
}

// statementTime is how long a user's own statements may take, beyond the waits
// for a connection.
const statementTime = 5 * time.Second

// minSchema is the oldest tenant schema that this binary serves: 4 has the counters
// that every request is admitted by.
const minSchema = 4

// run serves until ctx ends, then stops in the order that lets each part finish
// with what it needs: doors, router, workers, cache.
func (n *node) run(ctx context.Context, p *Platform, workers bool, apiLn, adminLn net.Listener, ready func(api, admin net.Addr)) error {
	// The parts outlive ctx until they are stopped in order below.
	parts, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	g, failed := errgroup.WithContext(parts)
	g.Go(func() error { return n.cache.Run(parts) })
	// What is settled last is sealed before the router closes.
	behind, endBehind := context.WithCancel(parts)
	sealed := make(chan struct{})
	g.Go(func() error { defer close(sealed); return n.pipeline.run(behind) })
	n.finish = func(ctx context.Context) {
		endBehind()
		select {
		case <-sealed:
		case <-ctx.Done():
		}
	}
	defer endBehind()
	g.Go(func() error { n.health.run(parts); return nil })
	g.Go(func() error { return n.api.Serve(apiLn) })
	g.Go(func() error { return n.admin.Serve(adminLn) })
	var w *background
	if workers {
		var err error
		if w, err = startWorkers(parts, p, n.cfg, n.log); err != nil {
			n.log.Error("workers did not start", "error", err)
			stopParts()
			return errors.Join(err, n.stop(nil, stopParts), g.Wait())
		}
	}
	n.log.Info("serving", "api", apiLn.Addr().String(), "admin", adminLn.Addr().String(), "workers", workers)
	if ready != nil {
		ready(apiLn.Addr(), adminLn.Addr())
	}
	select {
	case <-ctx.Done():
	case <-failed.Done(): // a part ended by itself: its error comes from Wait
	}
	err := n.stop(w, stopParts)
	return errors.Join(err, g.Wait())
}

// Work runs the workers alone until ctx ends.
func Work(ctx context.Context, cfg Config, version string, log *slog.Logger) error {
	if err := cfg.Check(NeedCatalog | NeedS3 | NeedMail | NeedWorkers); err != nil {
		return err
	}
	p, err := Open(ctx, cfg, NeedCatalog|NeedS3, log)
	if err != nil {
		return err
	}
	defer p.Close()
	name, err := processName()
	if err != nil {
		return err
	}
	latest, err := migrations.Tenant().Latest()
	if err != nil {
		return err
	}
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	var listed sync.WaitGroup
	defer listed.Wait()
	defer stop()
	listed.Go(func() { p.Catalog.Attend(parts, "worker "+name, version, minSchema, latest) })
	w, err := startWorkers(parts, p, cfg, log)
	if err != nil {
		return err
	}
	log.Info("working")
	<-ctx.Done()
	bounded, cancel := context.WithTimeout(parts, drainTime)
	defer cancel()
	return w.Stop(bounded)
}

// listen opens both doors, with TLS when a certificate is given.
func listen(cfg Config) (apiLn, adminLn net.Listener, err error) {
	var conf *tls.Config
	if cfg.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: certificate: %w", ErrConfig, err)
		}
		conf = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	open := func(name, addr string) (net.Listener, error) {
		ln, err := net.Listen("tcp", addr) //nolint:noctx // a listener outlives any context
		if err != nil {
			return nil, fmt.Errorf("%w (set %s to another address)", err, name)
		}
		if conf != nil {
			ln = tls.NewListener(ln, conf)
		}
		return ln, nil
	}
	if apiLn, err = open("FREEHOLD_LISTEN", cfg.Listen); err != nil {
		return nil, nil, err
	}
	if adminLn, err = open("FREEHOLD_ADMIN_LISTEN", cfg.AdminListen); err != nil {
		_ = apiLn.Close()
		return nil, nil, err
	}
	return apiLn, adminLn, nil
}
