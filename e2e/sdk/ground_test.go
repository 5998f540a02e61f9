//go:build e2e

package sdk_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/e2e/child"
	"freehold/migrations/pgtest"
)

// platform is a `freehold dev` in a folder of its own.
type platform struct {
	dir, url string
	env      []string // what its children get
}

func startPlatform(t *testing.T) *platform {
	t.Helper()
	dir := pgtest.TempDir(t)
	if err := os.Chmod(dir, 0o711); err != nil { // Postgres reaches it also when the tests run as root
		t.Fatal(err)
	}
	listen := child.FreeAddr()
	p := &platform{dir: dir, url: "http://" + listen}
	if chosen := os.Getenv("FREEHOLD_PG_BIN"); chosen != "" {
		p.env = append(p.env, "FREEHOLD_PG_BIN="+chosen)
	}
	node := child.Start(t, child.Config{
		Path: child.Freehold(t), Dir: dir, Env: p.env,
		Args: []string{"dev", "--listen", listen, "--admin-listen", child.FreeAddr()},
	})
	node.WaitReady(t, nil, p.url+"/readyz", time.Minute)
	return p
}

// ground is what one SDK's tests stand on: a tenant, a door and engines of their
// own on a platform that both share.
type ground struct {
	t        *testing.T
	slug     string
	platform *platform
	upstream *upstream
	door     *door
	key      string
	// workers are what control left behind.
	workers sync.WaitGroup
}

// Models of a ground, behind the slug and a slash: their ids have one in them.
const (
	echoModel = "/Echo-3.1:free" // answers
	downModel = "/down"          // fails
	cutModel  = "/cut"           // breaks off
)

func (p *platform) ground(t *testing.T, slug string) *ground {
	t.Helper()
	g := &ground{t: t, slug: slug, platform: p, upstream: startUpstream(t)}
	g.door = startDoor(t, g, p.url)
	t.Cleanup(g.workers.Wait)
	for _, m := range []struct{ name, engine, path string }{
		{echoModel, slug + "-up", ""}, {downModel, slug + "-down", "/down"}, {cutModel, slug + "-cut", "/cut"},
	} {
		g.sh(fmt.Sprintf(`freehold engine add %s --kind openai --url %s%s/v1
freehold model add %s%s --engine %s --upstream up`, m.engine, g.upstream.url, m.path, slug, m.name, m.engine))
	}
	g.key = p.key(t, slug)
	return g
}

// key reads a tenant's key from dev.env: what a child prints, a failed test logs.
func (p *platform) key(t *testing.T, slug string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, ".freehold", "dev.env"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "export "+strings.ToUpper(slug)+"_API_KEY='")
	key, _, closed := strings.Cut(after, "'")
	if !found || !closed {
		t.Fatalf("dev.env has no key of %s", slug)
	}
	return key
}

// sh runs a script as a second terminal does, and returns what it printed.
func (g *ground) sh(script string, env ...string) string {
	g.t.Helper()
	got := child.Run(g.t, child.Config{
		Path: "/bin/sh", Args: []string{"-ec", ". .freehold/dev.env\nfreehold() { " + child.Freehold(g.t) + " \"$@\"; }\n" + script},
		Dir: g.platform.dir, Env: append(append([]string{"SLUG=" + g.slug}, g.platform.env...), env...),
	}, time.Minute)
	if got.Code != 0 {
		g.t.Errorf("%s: exit status %d: %s%s", script, got.Code, got.Stdout, got.Stderr)
	}
	return got.Stdout
}

// set changes the tenant's configuration, as an operator does.
func (g *ground) set(pair string) {
	g.t.Helper()
	g.sh(`freehold config set "$SLUG" "$SET"`, "SET="+pair)
}

// fence moves the fence in the tenant's own database. Above what any node knows,
// each request is refused with 503 and Retry-After: a tenant whose state changes.
func (g *ground) fence(by string) {
	g.t.Helper()
	g.sh(`freehold tenant psql "$SLUG" --write -qc "update freehold.tenant_identity set fence = fence ` + by + `"`)
}
