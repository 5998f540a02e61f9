package app_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/cmd/freehold/app"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
	"freehold/tenantdb/fleet"
)

func TestDrainIsChecked(t *testing.T) {
	t.Parallel()
	for text, fine := range map[string]bool{
		"": true, "0s": true, "90s": true, "10m": true, "11m": false, "-1s": false, "15": false, "soon": false,
	} {
		err := app.FromEnv(env("FREEHOLD_DRAIN", text)).Check(app.NeedAddresses)
		if fine && err != nil || !fine && (!errors.Is(err, app.ErrConfig) || !strings.Contains(err.Error(), "FREEHOLD_DRAIN")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// slowAnswer is longer than a node without a drain would wait, by some seconds.
const slowAnswer = 3 * time.Second

// slowEngine answers after slowAnswer, whole or in pieces, and says that it was asked.
func slowEngine(t *testing.T) (string, <-chan struct{}) {
	asked := make(chan struct{}, 2)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		stream := strings.Contains(string(body), `"stream":true`)
		if stream {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"first "}}]}`+"\n\n")
			_ = http.NewResponseController(w).Flush()
		}
		asked <- struct{}{}
		time.Sleep(slowAnswer)
		if stream {
			_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"last"},"finish_reason":"stop"}]}`+"\n\n"+
				`data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`+"\n\ndata: [DONE]\n\n")
			return
		}
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":"first last"},"finish_reason":"stop"}],`+
			`"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1", asked
}

// drained is a configuration of a node on real parts, and a key of its one tenant.
func drained(t *testing.T, engineURL string) (app.Config, string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	folder := t.TempDir()
	cat, at := catalogtest.Open(t)
	must(at.Keyset.Write(filepath.Join(folder, "master.key")))
	must(os.WriteFile(filepath.Join(folder, "token"), []byte(strings.Repeat("operators", 4)), 0o600))
	endpoint, bucket := blobtest.Shared(t), "app-drain"
	_, err := blob.Open(t.Context(), blob.Config{Endpoint: endpoint, Bucket: bucket}, true)
	must(err)
	f, err := fleet.New(fleet.Config{Catalog: cat})
	must(err)
	admin, err := url.Parse(pgtest.AdminURL(t))
	must(err)
	password, _ := admin.User.Password()
	_, err = f.AddServer(t.Context(), fleet.ServerAdd{
		Name: "pg-1", Password: password, URL: "postgres://" + admin.User.Username() + "@" + admin.Host + "/postgres?sslmode=disable",
	})
	must(err)
	_, err = cat.AddEngine(t.Context(), catalog.EngineSpec{Name: "slow", Kind: "openai", BaseURL: engineURL, Timeout: time.Minute})
	must(err)
	_, err = cat.AddModel(t.Context(), catalog.Model{Name: "slow", Engine: "slow", Upstream: "slow", Kind: "chat"})
	must(err)
	_, key, err := f.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	must(err)
	return app.FromEnv(env(
		"FREEHOLD_CATALOG_URL", at.URL, "FREEHOLD_MASTER_KEY_FILE", filepath.Join(folder, "master.key"),
		"FREEHOLD_ADMIN_TOKEN_FILE", filepath.Join(folder, "token"), "FREEHOLD_DATA_DIR", folder,
		"FREEHOLD_LISTEN", "127.0.0.1:0", "FREEHOLD_ADMIN_LISTEN", "127.0.0.1:0",
		"FREEHOLD_S3_ENDPOINT", endpoint, "FREEHOLD_S3_BUCKET", bucket, "FREEHOLD_DRAIN", "5m",
	)), key
}

// A node that is told to stop answers what it has taken, streams too, takes nothing
// more, and ends as soon as that is done.
func TestDrain(t *testing.T) {
	t.Parallel()
	engineURL, asked := slowEngine(t)
	cfg, key := drained(t, engineURL)
	ctx, terminate := context.WithCancel(t.Context())
	defer terminate()
	addr, served := make(chan string, 1), make(chan error, 1)
	go func() {
		served <- app.Serve(ctx, cfg, "test", false, slog.New(slog.DiscardHandler), func(api, _ net.Addr) { addr <- api.String() })
	}()
	var at string
	select {
	case at = <-addr:
	case err := <-served:
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}} // that keeps its connections, which hold nobody up
	defer client.CloseIdleConnections()
	ask := func(stream string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at+"/v1/chat/completions",
			strings.NewReader(`{"model":"slow","stream":`+stream+`,"messages":[{"role":"user","content":"x"}]}`))
		if err != nil {
			return 0, err.Error()
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return 0, err.Error()
		}
		return resp.StatusCode, string(body)
	}
	type answer struct {
		status int
		body   string
	}
	answers := map[string]chan answer{"false": make(chan answer, 1), "true": make(chan answer, 1)}
	for stream, into := range answers {
		go func() {
			status, body := ask(stream)
			into <- answer{status, body}
		}()
	}
	for range answers {
		select {
		case <-asked:
		case <-time.After(time.Minute):
			t.Fatal("the engine wasn't asked")
		}
	}
	began := time.Now()
	terminate()
	for {
		conn, err := net.DialTimeout("tcp", at, time.Second)
		if err != nil {
			break
		}
		_ = conn.Close()
		if time.Since(began) > 2*time.Minute {
			t.Fatal("new connections are accepted")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for stream, want := range map[string]string{"false": "first last", "true": "data: [DONE]"} {
		if got := <-answers[stream]; got.status != http.StatusOK || !strings.Contains(got.body, want) {
			t.Errorf("stream %s: %d %s", stream, got.status, got.body)
		}
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < slowAnswer-time.Second || took > 2*time.Minute {
		t.Errorf("it ended after %v", took)
	}
}
