//go:build e2e

package upgrade_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freehold/e2e/child"
	"freehold/e2e/mockengine"
	"freehold/migrations/pgtest"
)

const (
	tenants   = 8
	chatModel = "chat-1"

	startTime   = time.Minute
	commandTime = 2 * time.Minute
)

// ground is a platform as an operator has it: servers, an environment, and binaries.
type ground struct {
	*testing.T
	releases

	dir  string
	env  []string
	keys []string // of the tenants
}

// node is a process that serves.
type node struct {
	*child.Process
	release, api string
}

// setup brings the release before up, with tenants and without nodes.
func setup(t *testing.T) *ground {
	t.Helper()
	g := &ground{T: t, releases: build(t), dir: t.TempDir()}
	mock, err := mockengine.Open(mockengine.Config{Delay: 50 * time.Millisecond, Gap: 100 * time.Millisecond})
	g.ok(err)
	t.Cleanup(func() { g.ok(mock.Close()) })
	admin, err := url.Parse(pgtest.AdminURL(t))
	g.ok(err)
	password, _ := admin.User.Password()
	g.ok(os.WriteFile(filepath.Join(g.dir, "password"), []byte(password), 0o600))
	g.ok(os.WriteFile(filepath.Join(g.dir, "token"), []byte(strings.Repeat("t", 40)), 0o600))
	catalog, server := *admin, *admin
	catalog.Path = "/upgraded"
	server.User = url.User(admin.User.Username())
	g.env = append(child.StartS3(t).Env(),
		"FREEHOLD_CATALOG_URL="+catalog.String(), "FREEHOLD_MASTER_KEY_FILE="+filepath.Join(g.dir, "master.key"),
		"FREEHOLD_ADMIN_TOKEN_FILE="+filepath.Join(g.dir, "token"), "FREEHOLD_DATA_DIR="+g.dir)
	for _, args := range [][]string{
		{"catalog", "migrate"},
		{"server", "add", "main", "--url", server.String(), "--password-file", "password", "--budget", "60"},
		{"engine", "add", "mock", "--kind", "openai", "--url", mock.URL()},
		{"model", "add", chatModel, "--engine", "mock", "--upstream", "mock", "--kind", "chat"},
	} {
		g.done(g.old, args...)
	}
	for i := range tenants {
		var made struct {
			Key string `json:"api_key"`
		}
		got := g.done(g.old, "tenant", "create", fmt.Sprintf("tenant-%d", i), "-o", "json")
		g.ok(json.Unmarshal([]byte(got.Stdout), &made))
		g.keys = append(g.keys, made.Key)
	}
	return g
}

func (g *ground) ok(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// run runs a command of a release to its end.
func (g *ground) run(release string, args ...string) child.Result {
	g.Helper()
	return child.Run(g, child.Config{Path: release, Args: args, Env: g.env, Dir: g.dir}, commandTime)
}

// done is a command that must succeed.
func (g *ground) done(release string, args ...string) child.Result {
	g.Helper()
	got := g.run(release, args...)
	if got.Code != 0 {
		g.Fatalf("freehold %s: exit status %d\n%s%s", strings.Join(args, " "), got.Code, got.Stdout, got.Stderr)
	}
	return got
}

// refused is a command that must fail, and say each of these texts.
func (g *ground) refused(texts []string, release string, args ...string) {
	g.Helper()
	got := g.run(release, args...)
	if got.Code != 1 {
		g.Fatalf("freehold %s: exit status %d, want 1\n%s%s", strings.Join(args, " "), got.Code, got.Stdout, got.Stderr)
	}
	g.says(got, texts...)
}

func (g *ground) says(got child.Result, texts ...string) {
	g.Helper()
	for _, text := range texts {
		if !strings.Contains(got.Stdout+got.Stderr, text) {
			g.Errorf("not said: %q in\n%s%s", text, got.Stdout, got.Stderr)
		}
	}
}

// serve starts a node of a release, with workers.
func (g *ground) serve(release string) *node {
	g.Helper()
	listen := child.FreeAddr()
	n := &node{release: release, api: "http://" + listen}
	n.Process = child.Start(g, child.Config{
		Path: release, Args: []string{"serve"}, Dir: g.dir, StopTimeout: startTime,
		Env: append([]string{"FREEHOLD_LISTEN=" + listen, "FREEHOLD_ADMIN_LISTEN=127.0.0.1:0"}, g.env...),
	})
	n.WaitReady(g, nil, n.api+"/readyz", startTime)
	return n
}
