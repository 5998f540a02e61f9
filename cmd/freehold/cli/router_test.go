package cli_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/admin"
	"freehold/cmd/freehold/api"
	"freehold/cmd/freehold/app"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/router"
	"freehold/tenantdb"
)

const token = "operators-token-of-the-tests"

// setupNode is a node with tenant acme, as the environment of the commands has it.
func setupNode(t *testing.T) (bench, *resttest.Platform) {
	t.Helper()
	p := resttest.Open(t)
	url := p.Serve(admin.New(admin.Config{
		Catalog: p.Catalog, Cache: p.Cache, Fleet: p.Fleet, Router: p.Router, Token: token, Logger: p.Logger, Version: "test",
	}))
	acme, _ := p.Tenant("acme")
	p.OK(p.Router.For(acme.ID, acme.Epoch).Borrow(t.Context(), tenantdb.Interactive,
		func(context.Context, *tenantdb.DB) error { return nil }))
	t.Setenv("FREEHOLD_ADMIN_URL", url)
	t.Setenv("FREEHOLD_ADMIN_TOKEN", token)
	t.Setenv("FREEHOLD_ADMIN_TOKEN_FILE", "")
	return bench{t}, p
}

func TestRouterCommands(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b, p := setupNode(t)
	out, _ := b.run("", 0, "router", "top") // no terminal: once
	for _, want := range []string{"node " + p.Cache.NodeID(), "BREAKER", "BORROWS/S"} {
		if !strings.Contains(out, want) || strings.Contains(out, "\x1b") {
			t.Errorf("top lacks %q:\n%s", want, out)
		}
	}
	out, _ = b.run("", 0, "router", "show", "acme")
	rows := strings.Split(strings.TrimSpace(out), "\n")
	var view router.TenantView
	shown, _ := b.run("", 0, "router", "show", "acme", "-o", "json")
	if err := json.Unmarshal([]byte(shown), &view); err != nil || view.Slug != "acme" || view.State != "active" {
		t.Errorf("show -o json: %v %s", err, shown)
	}
	if last := rows[len(rows)-1]; last == "" || !strings.HasPrefix(rows[0], "tenant ") || !strings.Contains(out, "state ") {
		t.Errorf("show:\n%s", out)
	}
	if out, _ := b.run("", 0, "router", "reconnect", "acme"); !strings.HasPrefix(out, "acme: ") {
		t.Errorf("reconnect: %q", out)
	}
	for _, args := range []string{"router top", "router top --once --sort wait --limit 3", "router reconnect acme"} {
		if out, err := b.run("", 0, append(strings.Fields(args), "-o", "json")...); !json.Valid([]byte(out)) || err != "" {
			t.Errorf("%s: %q %q", args, out, err)
		}
	}
	for args, want := range map[string]string{
		"router show nobody":      "tenant nobody: not found",
		"router reconnect nobody": "tenant nobody: not found",
		"router show ../acme":     "tenant ../acme: not found",
	} {
		if _, err := b.run("", 1, strings.Fields(args)...); err != "freehold: "+want+"\n" {
			t.Errorf("%s: %q", args, err)
		}
	}
	for _, args := range []string{"router top --sort name", "router top --limit 0", "router show", "router bogus"} {
		b.run("", 2, strings.Fields(args)...)
	}
}

// What stands between an operator and a node is told so that it can be mended.
func TestRouterUnreachable(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b, p := setupNode(t)
	real := os.Getenv("FREEHOLD_ADMIN_URL")
	tenants := p.Serve(api.New(api.Config{
		Cache: p.Cache, Router: p.Router, Inference: p.Inference, Tuning: p.Tuning(), Due: p.Catalog.MarkDue, Logger: p.Logger,
		Keys:    api.Keys{List: p.Catalog.Keys, Create: p.Catalog.CreateKey, Revoke: p.Fleet.RevokeKey, Audit: p.Catalog.AppendAudit},
		Audits:  api.Audits{Head: p.Catalog.AuditHead, Verify: p.Catalog.VerifyAuditSignature, PublicKeys: p.Catalog.AuditPublicKeys},
		Exports: api.Exports{Begin: p.Fleet.BeginExport, Get: p.Catalog.Export, List: p.Catalog.Exports},
	}))
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer other.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("another-operators-token-hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   string
		status int
		want   string
	}{
		{"no node", "--admin-url " + gone.URL, 1, "no node answers at " + gone.URL},
		{"wrong token", "--admin-url " + real + " --admin-token-file " + file, 1, "refuses the token"},
		{"tenants' door", "--admin-url " + tenants, 1, "not a Freehold node's admin API"},
		{"another program", "--admin-url " + other.URL, 1, "not a Freehold node's admin API"},
		{"no address", "--admin-url 127.0.0.1:8081", 2, "FREEHOLD_ADMIN_URL"},
		{"no token file", "--admin-token-file " + file + ".none", 1, "no such file"},
		{"no certificates", "--admin-ca " + file, 2, "holds no certificate"},
	} {
		for _, verb := range []string{"top", "show acme", "reconnect acme"} {
			_, err := b.run("", c.status, strings.Fields("router "+verb+" "+c.args)...)
			if !strings.Contains(err, c.want) || strings.Contains(err, "hunter2") || strings.Contains(err, token) {
				t.Errorf("%s, %s: %s", c.name, verb, err)
			}
		}
	}
	t.Setenv("FREEHOLD_ADMIN_TOKEN", "")
	if _, err := b.run("", 2, "router", "top"); !strings.Contains(err, "FREEHOLD_ADMIN_TOKEN_FILE") {
		t.Errorf("no token: %s", err)
	}
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run("", 0, "router", "top", "--admin-token-file", file)
	t.Setenv("FREEHOLD_ADMIN_TOKEN_FILE", file)
	b.run("", 0, "router", "top")
}

// busyNode answers as a node does whose server is in trouble.
func busyNode(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	now := time.Now()
	v := router.View{At: now, Servers: []router.ServerView{
		{Name: "pg-1", Breaker: "open", LastError: "timeout", LastErrorAt: now.Add(-3 * time.Second)},
		{Name: "pg-2", Breaker: "closed", Waiting: 7, OldestWait: 2500 * time.Millisecond},
	}}
	for i := range 40 {
		v.Tenants = append(v.Tenants, router.TenantView{
			Slug: fmt.Sprintf("tenant-%02d", i), BorrowsPerSecond: float64(100 - i), Waiting: i, Leased: 40 - i, OldestWait: time.Duration(i % 7),
		})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"node": "n-1", "view": v})
}

// first is the first of top's tenants, and how many there are.
func first(out string) (slug string, n int) {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "tenant-") {
			if n++; n == 1 {
				slug, _, _ = strings.Cut(line, " ")
			}
		}
	}
	return slug, n
}

func TestRouterTopOrder(t *testing.T) { //nolint:paralleltest // the environment is the process's
	srv := httptest.NewTLSServer(http.HandlerFunc(busyNode))
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}
	if err := os.WriteFile(ca, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FREEHOLD_ADMIN_URL", srv.URL)
	t.Setenv("FREEHOLD_ADMIN_TOKEN", token)
	b := bench{t}
	if _, err := b.run("", 1, "router", "top"); !strings.Contains(err, "--admin-ca") {
		t.Errorf("a certificate that nobody trusts: %s", err)
	}
	for order, want := range map[string]string{"borrows": "tenant-00", "waiting": "tenant-39", "leases": "tenant-00", "wait": "tenant-06"} {
		out, _ := b.run("", 0, "router", "top", "--admin-ca", ca, "--sort", order, "--limit", "9")
		if slug, n := first(out); slug != want || n != 9 || !strings.Contains(out, "! pg-1: timeout, 3.0s ago\n") {
			t.Errorf("by %s: %d, first %s\n%s", order, n, slug, out)
		}
	}
}

func TestSuspendAndResume(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	b.store()
	p, err := app.Open(t.Context(), app.FromEnv(os.Getenv), app.NeedCatalog, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	acme, _, err := p.Fleet.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		verb string
		want catalog.State
	}{{"suspend", catalog.Suspended}, {"suspend", catalog.Suspended}, {"resume", catalog.Active}, {"resume", catalog.Active}} {
		out, _ := b.run("", 0, "tenant", step.verb, "acme")
		now, err := p.Catalog.Tenant(t.Context(), acme.ID)
		if err != nil || now.State != step.want || out != "acme is "+string(step.want)+"\n" {
			t.Errorf("%s: %s, %q %v", step.verb, now.State, out, err)
		}
	}
	b.run("", 1, "tenant", "suspend", "nobody")
	if _, err := p.Catalog.SetState(t.Context(), acme.ID, catalog.Deleting, catalog.Active); err != nil {
		t.Fatal(err)
	}
	if _, err := b.run("", 1, "tenant", "resume", "acme"); !strings.Contains(err, "tenant acme: ") {
		t.Errorf("resume of a tenant that is being deleted: %s", err)
	}
}
