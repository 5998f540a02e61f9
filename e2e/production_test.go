//go:build e2e

package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"freehold/e2e/child"
	"freehold/e2e/pgcontainer"
)

// Production's path: an empty Postgres over TLS, an object store that Freehold
// didn't start, an admin role with LOGIN, CREATEDB and CREATEROLE, and README's
// own commands, lead to an answered request.
func TestProductionPath(t *testing.T) {
	t.Parallel()
	pg := pgcontainer.Start(t, pgcontainer.Options{TLS: true})
	s3 := child.StartS3(t)
	dir := checkout(t)
	roots := certificate(t, dir)

	admin, err := url.Parse(pg.AdminURL("freehold"))
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := admin.User.Password()
	if err := os.WriteFile(filepath.Join(dir, "postgres-admin.secret"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bare := *admin
	bare.User, bare.Path = url.User(admin.User.Username()), "/postgres"
	listen, adminListen := child.FreeAddr(), child.FreeAddr()
	env := append(s3.Env(),
		"FREEHOLD_CATALOG_URL="+admin.String(),
		"FREEHOLD_MASTER_KEY_FILE="+filepath.Join(dir, "master.key"),
		"FREEHOLD_ADMIN_TOKEN_FILE="+filepath.Join(dir, "admin.token"),
		"FREEHOLD_TLS_CERT="+filepath.Join(dir, "tls.crt"), "FREEHOLD_TLS_KEY="+filepath.Join(dir, "tls.key"),
		"FREEHOLD_LISTEN="+listen, "FREEHOLD_ADMIN_LISTEN="+adminListen,
		"POSTGRES_ADMIN_URL="+bare.String(),
	)
	sh := func(script string) child.Result {
		return child.Run(t, child.Config{
			Path: "/bin/sh", Args: []string{"-c", "export PATH=\"$PWD/bin:$PATH\"\n" + script}, Dir: dir, Env: env,
		}, time.Minute)
	}

	// Every role may connect to postgres and template1, as on a server that
	// nobody has prepared: server add prints the statement and refuses.
	pg.Exec(t, "postgres", "grant connect on database postgres, template1 to public")
	commands := readme(t, "production")
	prepare, rest, found := strings.Cut(commands, "freehold server add")
	if !found {
		t.Fatalf("README's block has no server add:\n%s", commands)
	}
	serverAdd, afterAdd, _ := strings.Cut("freehold server add"+rest, "\n")
	if got := sh("set -e\n" + prepare); got.Code != 0 {
		t.Fatalf("up to catalog migrate: %d %s%s", got.Code, got.Stdout, got.Stderr)
	}
	refused := sh(serverAdd)
	statement := regexp.MustCompile(`(?m)revoke connect on database .*;`).FindString(refused.Stderr)
	if refused.Code != 1 || statement == "" {
		t.Fatalf("server add of an open server: %d, no statement in %s%s", refused.Code, refused.Stdout, refused.Stderr)
	}
	pg.Exec(t, "postgres", statement)

	setup, found := strings.CutSuffix(serverAdd+"\n"+afterAdd, "\nfreehold serve")
	if !found {
		t.Fatalf("README's block doesn't end in serve:\n%s", commands)
	}
	made := sh("set -e\n" + setup)
	key := regexp.MustCompile(`fh_[0-9A-Za-z_]+`).FindString(made.Stdout)
	if made.Code != 0 || key == "" {
		t.Fatalf("README's commands: %d %s%s", made.Code, made.Stdout, made.Stderr)
	}

	node := child.Start(t, child.Config{Path: filepath.Join(dir, "bin", "freehold"), Args: []string{"serve"}, Dir: dir, Env: env})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	node.WaitReady(t, client, "https://"+listen+"/readyz", 15*time.Second)
	node.WaitReady(t, client, "https://"+adminListen+"/readyz", 15*time.Second)

	status, body := ask(t, client, "https://"+listen+"/v1/chat/completions", key,
		`{"model":"freehold-answer-1","messages":[{"role":"system","content":"Our warehouse stands in Rotterdam. Gift cards never expire."},{"role":"user","content":"Where is the warehouse?"}]}`)
	if status != http.StatusOK || !strings.Contains(body, "Rotterdam") {
		t.Errorf("chat: %d %s", status, body)
	}
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	if status, body := ask(t, client, "https://"+adminListen+"/admin/v1/tenants", strings.TrimSpace(string(token)), ""); status != http.StatusOK || !strings.Contains(body, "acme") {
		t.Errorf("admin's tenants: %d %s", status, body)
	}
	if status, _ := ask(t, client, "https://"+listen+"/admin/v1/tenants", strings.TrimSpace(string(token)), ""); status != http.StatusNotFound {
		t.Errorf("an admin route on the tenants' door: %d, want 404", status)
	}
	if got := sh("freehold tenant prove acme"); got.Code != 0 || strings.Contains(got.Stdout, "ALLOWED") {
		t.Errorf("tenant prove: %d %s%s", got.Code, got.Stdout, got.Stderr)
	}
	if got := sh("freehold doctor"); got.Code != 0 {
		t.Errorf("doctor: %d %s%s", got.Code, got.Stdout, got.Stderr)
	}
	if code := node.Stop(t); code != 0 {
		t.Errorf("serve after SIGTERM: exit status %d", code)
	}
	for _, secret := range []string{secret, key, strings.TrimSpace(string(token))} {
		if strings.Contains(node.Stderr.String()+node.Stdout.String(), secret) {
			t.Error("a secret stands in the log")
		}
	}
}

// A remote server must be verified, or --insecure said.
func TestServerAddRefusesUnverifiedRemote(t *testing.T) {
	t.Parallel()
	pg := pgcontainer.Start(t, pgcontainer.Options{})
	dir := checkout(t)
	run := func(args ...string) child.Result {
		return child.Run(t, child.Config{
			Path: filepath.Join(dir, "bin", "freehold"), Args: args, Dir: dir, Stdin: "a-password\n",
			Env: []string{"FREEHOLD_CATALOG_URL=" + pg.AdminURL("freehold"), "FREEHOLD_MASTER_KEY_FILE=" + filepath.Join(dir, "master.key")},
		}, time.Minute)
	}
	if got := run("catalog", "migrate"); got.Code != 0 {
		t.Fatalf("catalog migrate: %s", got.Stderr)
	}
	for _, mode := range []string{"disable", "require", "verify-ca"} {
		got := run("server", "add", "far", "--url", "postgres://admin@db.example.com:5432/postgres?sslmode="+mode)
		if got.Code == 0 || !strings.Contains(got.Stderr, "verify-full") {
			t.Errorf("sslmode=%s: %d %s", mode, got.Code, got.Stderr)
		}
	}
	withPassword := run("server", "add", "far", "--url", "postgres://admin:hunter2secret@db.example.com/postgres?sslmode=verify-full")
	if withPassword.Code != 2 || strings.Contains(withPassword.Stderr, "hunter2secret") {
		t.Errorf("a password in the URL: %d %s", withPassword.Code, withPassword.Stderr)
	}
}

// ask posts a body, or gets when there is none.
func ask(t *testing.T, client *http.Client, url, token, body string) (int, string) {
	t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(got)
}

// certificate writes tls.crt and tls.key for 127.0.0.1 and returns who to trust.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "freehold e2e"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return roots
}
