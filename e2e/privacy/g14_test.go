package privacy_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

// Keys are kept as hashes, credentials sealed, and neither they nor prompts stand in
// a log, an error, a metric or a trace, whatever goes wrong. Detection is off: what
// isn't looked for isn't written down either.
func TestG14_SecretsAndPromptsAreNowhere(t *testing.T) {
	t.Parallel()
	g := setup(t)
	g.secrets["collector's key"] = "collector-key-5521-abcdef"
	g.env = append(g.env, "OTEL_EXPORTER_OTLP_HEADERS=x-collector-key="+g.secrets["collector's key"])
	off := catalog.ConfigPatch{PIIDetectionEnabled: new(false)}
	open, key := g.tenant("open", off)
	_, stranger := g.tenant("stranger", off)
	g.start()
	others := g.crowd(stranger)
	w := &work{ground: g, p: newPlanter(t, 3)}
	mend := w.storeAway()
	kept := w.prompts(key)
	told := w.keys(key)
	told = append(told, w.operators()...)
	w.traces.refuse.Store(true)
	w.misplaced(key)
	w.wrongPassword(open, key)
	metrics := g.metrics()
	answers := others()
	mend()
	w.away(key)
	g.masterKey()
	started := g.badStarts()

	log := []byte(g.node.Stderr.String() + g.node.Stdout.String())
	everywhere := []place{
		{"the log", log}, {"the traces", g.traces.received()}, {"the metrics", metrics}, {"the catalog", g.catalogDump()},
		{"the object store", g.objects()}, {"the server's log", g.serverLog()}, {"what others were answered", answers},
		{"what failed starts said", started}, {"stranger's database", g.tenantDump(g.tenants[1])},
	}
	own := place{"open's database", g.tenantDump(open)}
	errors := place{"what errors said", []byte(strings.Join(w.errors, "\n") + strings.Join(told, "\n"))}

	var prompts, secrets needles
	for _, one := range w.p.all {
		prompts.add(one.value)
	}
	for _, secret := range g.secrets {
		secrets.add(secret)
		if strings.HasPrefix(secret, "fh_") || strings.HasPrefix(secret, "fho_") {
			secrets.add(secret[strings.LastIndexByte(secret, '_')+1:]) // the id before it is none
		}
	}
	t.Logf("%d secrets, %d values in prompts, %d requests", secrets.count, prompts.count, w.requests)
	prompts.absent(t, everywhere)
	secrets.absent(t, append(everywhere, own, errors))

	// They are where they may be, so that the search means something.
	for _, p := range []place{own, {"the engine", g.upstream.received()}} {
		for _, value := range kept {
			if len(prompts.find([]byte(value))) == 0 || !strings.Contains(string(p.text), value) {
				t.Errorf("%s hasn't %q", p.name, value)
			}
		}
	}
	if !strings.Contains(string(g.upstream.received()), g.secrets["engine's key"]) {
		t.Error("the engine was not sent its key")
	}
	for _, want := range []string{
		"engine did not answer", "upstream error code", "store_unavailable", "traces are not sent", "database_unavailable", `"level":"DEBUG"`,
	} {
		if !strings.Contains(string(log), want) {
			t.Errorf("nothing was provoked: the log has no %q", want)
		}
	}
}

// prompts asks for all that engines do, well and badly, and returns values that are
// to be in the tenant's own database.
func (w *work) prompts(token string) (kept []string) {
	w.Helper()
	var all []func()
	for i, model := range append(slices.Clone(behaviours), "nobody") {
		if model == "gated" {
			continue
		}
		mark := len(w.p.all)
		req := map[string]any{
			"model": model, "stream": i%2 == 0, "user": w.p.alone(100), "metadata": map[string]any{"of": w.p.text()},
			"messages": []any{map[string]any{"role": "user", "content": w.p.text() + w.p.long() + " " + w.p.text() + " " + w.p.alone(60)}},
		}
		mine := w.p.since(mark)
		all = append(all, w.later(token, req, func(a answer) {
			if a.err != nil && model != "cut" {
				w.Errorf("%s: %v", model, a.err)
			}
			switch model {
			case "refuse": // quotes what was sent, to who sent it
				w.errors = w.errors[:len(w.errors)-1]
				w.secretless(a)
			case "echo":
				for _, one := range mine {
					kept = append(kept, one.value)
				}
			}
		}, "Idempotency-Key", fmt.Sprint("k-", i)))
	}
	for _, wait := range all {
		wait()
	}
	for path, req := range map[string]map[string]any{
		"/v1/embeddings":       {"model": "vectors", "input": w.p.long()},
		"/v1/predictions":      {"model": "echo", "inputs": w.p.long()},
		"/v1/chat/completions": {"model": "echo", "messages": w.p.text(), "surprise": w.p.text()},
	} {
		w.send(token, path, req, 0)
	}
	return kept
}

// secretless checks an answer for the engine's key.
func (w *work) secretless(a answer) {
	w.Helper()
	var n needles
	n.add(w.secrets["engine's key"])
	n.absent(w, []place{{"an answer", []byte(a.body)}})
}

var anyKey = regexp.MustCompile(`"(fho?_[A-Za-z0-9_-]+)"`)

// keys makes and revokes API keys. What they are told once is a secret; what else
// is answered is returned.
func (w *work) keys(token string) (told []string) {
	w.Helper()
	for i := range 2 {
		a, _ := w.send(token, "/v1/api_keys", map[string]any{"name": "another", "scopes": []string{"read"}}, 0, "Idempotency-Key", "made-once")
		shown := anyKey.FindStringSubmatch(a.body)
		if (shown != nil) != (i == 0) {
			w.Errorf("key shown %q at answer %d: %d %s", shown, i+1, a.status, a.body)
		}
		if shown != nil {
			w.secrets["made key"] = shown[1]
		} else {
			told = append(told, a.body)
			w.told("made twice", a, http.StatusCreated)
		}
	}
	return append(told, w.ask(w.Context(), http.MethodGet, w.api+"/v1/api_keys", token, nil).body)
}

// operators does with the operators' API what is refused, and what isn't.
func (w *work) operators() (told []string) {
	w.Helper()
	say := func(method, path, token, body string) answer {
		a := w.ask(w.Context(), method, w.admin+"/admin/v1"+path, token, []byte(body))
		w.requests++
		if a.err != nil {
			w.Errorf("%s: %v", path, a.err)
		}
		return a
	}
	made := say(http.MethodPost, "/tokens", w.adminToken, `{"name":"jo","role":"owner"}`)
	shown := anyKey.FindStringSubmatch(made.body)
	if shown == nil {
		w.Errorf("no token in %d %s", made.status, made.body)
		return nil
	}
	w.secrets["jo's token"] = shown[1]
	for name, secret := range map[string]string{
		"server password": "hunter2-server-0815", "url password": "hunter2-url-0815", "engine key": "hunter2-engine-0815",
		"wrong token": "hunter2-token-0815-hunter2-token-0815-hunter2", "odd engine key": "hunter2 odd é 0815",
	} {
		w.secrets[name] = secret
	}
	host := w.way.Addr()
	for _, c := range []struct{ method, path, token, body string }{
		{http.MethodGet, "/tenants", w.secrets["wrong token"], ""},
		{http.MethodGet, "/tokens", shown[1], ""},
		{http.MethodPost, "/servers", shown[1], `{"name":"pg-2","url":"postgres://nobody@` + host + `/postgres?sslmode=disable","password":"hunter2-server-0815"}`},
		{http.MethodPost, "/servers", shown[1], `{"name":"pg-3","url":"postgres://nobody:hunter2-url-0815@` + host + `/postgres?sslmode=disable"}`},
		{http.MethodPost, "/servers", shown[1], `{"name":"pg-4","url":"postgres://nobody:hunter2-url-0815@[::1/postgres","password":"hunter2-server-0815"}`},
		{http.MethodPost, "/servers", shown[1], `{"name":"pg-5","url":{"a":"hunter2-url-0815"},"password":["hunter2-server-0815"]}`},
		{http.MethodPost, "/engines", shown[1], `{"name":"e2","kind":"openai","base_url":"http://u:hunter2-url-0815@127.0.0.1/v1","key":"hunter2-engine-0815"}`},
		{http.MethodPost, "/engines", shown[1], `{"name":"e3","kind":"openai","base_url":"http://127.0.0.1:9/v1","key":"hunter2-engine-0815"}`},
		{http.MethodPost, "/engines", shown[1], `{"name":"e4","kind":"openai","base_url":"http://127.0.0.1:9/v1","key":"hunter2 odd é 0815"}`},
		{http.MethodPost, "/models", shown[1], `{"name":"m4","engine":"e4","kind":"chat"}`},
		{http.MethodGet, "/engines", shown[1], ""}, {http.MethodGet, "/servers", shown[1], ""}, {http.MethodGet, "/audit", shown[1], ""},
		{http.MethodGet, "/router/tenants/open", shown[1], ""}, {http.MethodPost, "/tenants/open/prove", shown[1], ""},
		{http.MethodGet, "/status", shown[1], ""}, {http.MethodGet, "/nodes", shown[1], ""},
	} {
		told = append(told, say(c.method, c.path, c.token, c.body).body)
	}
	return told
}

// misplaced puts keys, good and mistyped ones, where they don't belong.
func (w *work) misplaced(token string) {
	w.Helper()
	typo := token[:len(token)-1] + "0"
	if typo == token {
		typo = token[:len(token)-1] + "1"
	}
	w.secrets["mistyped key"], w.secrets["half a key"] = typo, token[:len(token)-8]
	for _, bad := range []string{typo, w.secrets["half a key"], w.adminToken, "Bearer " + token} {
		a := w.ask(w.Context(), http.MethodGet, w.api+"/v1/models", bad, nil)
		w.told("wrong key", a, http.StatusUnauthorized)
		w.errors = append(w.errors, a.body)
	}
	hello := map[string]any{"model": "echo", "messages": []any{map[string]any{"role": "user", "content": "good morning"}}}
	for _, name := range []string{"X-Request-Id", "Traceparent", "Tracestate", "Baggage", "Idempotency-Key", "X-Api-Key", "Cookie"} {
		w.send(token, "/v1/chat/completions", hello, 0, name, token)
	}
	for _, path := range []string{"/v1/models/", "/v1/models?api_key=", "/v1/predictions/", "/v1/predictions?after=", "/v1/nothing?key="} {
		// Whoever asks is told what they asked for; nobody else is.
		w.ask(w.Context(), http.MethodGet, w.api+path+token, token, nil)
		w.ask(w.Context(), http.MethodGet, w.admin+"/admin"+path+token, w.adminToken, nil)
	}
	w.ask(w.Context(), http.MethodDelete, w.api+"/v1/api_keys/"+token, token, nil)
	w.send(token, "/v1/chat/completions", map[string]any{"model": token, "messages": hello["messages"]}, 0)
	w.send(token, "/v1/chat/completions", map[string]any{"model": "m4", "messages": hello["messages"]}, 0)
	w.requests += 25
}

// wrongPassword has the node's password for a tenant refused for a while.
func (w *work) wrongPassword(t catalog.Tenant, token string) {
	w.Helper()
	route, err := w.cat.Route(w.Context(), t.ID)
	w.ok(err)
	conn, err := pgx.Connect(w.Context(), pgtest.SuperURL(w))
	w.ok(err)
	defer conn.Close(context.Background())
	role := pgx.Identifier{route.Config.User}.Sanitize()
	_, err = conn.Exec(w.Context(), `alter role `+role+` nologin`)
	w.ok(err)
	w.way.Cut()
	w.way.Mend()
	a, _ := w.send(token, "/v1/chat/completions", map[string]any{"model": "echo", "messages": []any{map[string]any{"role": "user", "content": w.p.text()}}}, 0)
	w.told("no login", a, http.StatusServiceUnavailable)
	var kept string
	w.ok(conn.QueryRow(w.Context(), `select rolpassword from pg_authid where rolname = $1`, route.Config.User).Scan(&kept))
	_, err = conn.Exec(w.Context(), `alter role `+role+` login password 'another one'`)
	w.ok(err)
	a, _ = w.send(token, "/v1/embeddings", map[string]any{"model": "vectors", "input": w.p.text()}, 0)
	w.told("wrong password", a, http.StatusServiceUnavailable)
	_, err = conn.Exec(w.Context(), `alter role `+role+` password '`+kept+`'`)
	w.ok(err)
	hello := map[string]any{"model": "echo", "messages": []any{map[string]any{"role": "user", "content": "good morning"}}}
	w.until("the tenant is served again", func() bool {
		a := w.post(w.Context(), token, "/v1/chat/completions", hello)
		return a.err == nil && a.status == http.StatusOK
	})
}

// storeAway takes the object store away until mend, and has a tenant made meanwhile.
func (w *work) storeAway() (mend func()) {
	w.s3.cut.Store(true)
	got := make(chan answer, 1)
	go func() {
		got <- w.ask(w.Context(), http.MethodPost, w.admin+"/admin/v1/tenants", w.adminToken, []byte(`{"slug":"late"}`))
	}()
	return func() {
		w.Helper()
		a := <-got // tried several times
		w.told("store away", a, http.StatusServiceUnavailable)
		w.errors = append(w.errors, a.body)
		w.s3.cut.Store(false)
	}
}

// away takes the database away while an engine works, and ends the node.
func (w *work) away(token string) {
	w.Helper()
	end := w.gated(token)
	w.way.Cut()
	a, _ := w.send(token, "/v1/chat/completions", map[string]any{"model": "echo", "messages": []any{map[string]any{"role": "user", "content": w.p.text()}}}, 0)
	w.told("database away", a, http.StatusServiceUnavailable)
	close(w.upstream.gate)
	if code := w.node.Stop(w); code != 0 {
		w.Errorf("the node ended with %d", code)
	}
	end()
}

var keyValue = regexp.MustCompile(`"value":\s*"([A-Za-z0-9+/=]+)"`)

// masterKey has each key of the keyset searched for.
func (g *ground) masterKey() {
	g.Helper()
	text, err := os.ReadFile(filepath.Join(g.folder, "master.key"))
	g.ok(err)
	for i, found := range keyValue.FindAllStringSubmatch(string(text), -1) {
		raw, err := base64.StdEncoding.DecodeString(found[1])
		g.ok(err)
		g.secrets[fmt.Sprint("master key ", i)] = string(raw[max(0, len(raw)-32):])
		g.secrets[fmt.Sprint("master key in its file ", i)] = found[1]
	}
	if _, ok := g.secrets["master key 0"]; !ok {
		g.Fatal("the keyset's file has no key")
	}
}

// badStarts starts nodes that can't start, and returns what they said.
func (g *ground) badStarts() []byte {
	g.Helper()
	g.secrets["wrong catalog password"], g.secrets["mail's password"] = "hunter2-catalog-0815", "hunter2-mail-0815"
	g.secrets["collector's password"], g.secrets["wrong S3 secret"] = "hunter2-otel-0815", "hunter2-s3-0815"
	broken := filepath.Join(g.folder, "broken.key")
	g.ok(os.WriteFile(broken, []byte(`{"key": "hunter2-keyset-0815"`), 0o600))
	g.secrets["broken keyset"] = "hunter2-keyset-0815"
	short := filepath.Join(g.folder, "short.token")
	g.ok(os.WriteFile(short, []byte("hunter2-short"), 0o600))
	g.secrets["short token"] = "hunter2-short"
	address := g.way.Addr()
	g.way.Mend()
	var all []byte
	for what, env := range map[string]string{
		"refused":      "FREEHOLD_CATALOG_URL=postgres://freehold_admin_test:hunter2-catalog-0815@" + address + "/postgres?sslmode=disable",
		"nobody there": "FREEHOLD_CATALOG_URL=postgres://freehold:hunter2-catalog-0815@127.0.0.1:1/freehold?sslmode=disable",
		"no URL":       "FREEHOLD_CATALOG_URL=postgres://freehold:hunter2-catalog-0815@[::1:5432/freehold",
		"no keyword":   "FREEHOLD_CATALOG_URL=host=127.0.0.1 password=hunter2-catalog-0815 port=x",
		"mail":         "FREEHOLD_SMTP_URL=smtps//freehold:hunter2-mail-0815@mail.example.com:x",
		"traces":       "OTEL_EXPORTER_OTLP_ENDPOINT=freehold:hunter2-otel-0815@%zz",
		"keyset":       "FREEHOLD_MASTER_KEY_FILE=" + broken,
		"token":        "FREEHOLD_ADMIN_TOKEN_FILE=" + short,
		"store":        "AWS_SECRET_ACCESS_KEY=hunter2-s3-0815",
	} {
		name, _, _ := strings.Cut(env, "=")
		settings := slices.DeleteFunc(slices.Clone(g.env), func(v string) bool { return strings.HasPrefix(v, name+"=") })
		p := g.process(append(settings, env))
		if code := p.Wait(g, startTime); code == 0 {
			g.Errorf("%s: the node started", what)
		}
		all = append(all, p.Stderr.String()+p.Stdout.String()...)
	}
	return all
}
