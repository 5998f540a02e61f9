package mail_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/cmd/freehold/mail"
	"freehold/migrations/pgtest"
)

// bench is a catalog whose tenants are owed their welcome.
type bench struct {
	testing.TB
	cfg catalog.Config
	cat *catalog.Catalog
	log *lines
}

func setup(t testing.TB) *bench {
	t.Helper()
	b := &bench{TB: t, cfg: catalogtest.Config(t), log: &lines{}}
	b.cat = b.open()
	_, err := b.cat.AddServer(t.Context(), catalog.ServerSpec{
		Name: "pg-1", Host: "db.invalid", Port: 5432, SSLMode: "disable", AdminUser: "admin",
		Password: "x", Version: 150000, MaxConnections: 100,
	})
	b.ok(err)
	return b
}

// open opens the catalog as another process would.
func (b *bench) open() *catalog.Catalog {
	b.Helper()
	c, err := catalog.Open(b.Context(), b.cfg)
	b.ok(err)
	b.Cleanup(c.Close)
	return c
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// tenant makes an active tenant with an address, and returns its key.
func (b *bench) tenant(slug, name string) (token string) {
	b.Helper()
	made, err := b.cat.CreateTenant(b.Context(), catalog.TenantSpec{Slug: slug, Name: name, Email: slug + "@example.com"},
		catalog.Onboarding{Taker: catalog.Taker{Worker: "test", Lease: time.Minute}, Steps: []string{"register"}, Latest: 1})
	b.ok(err)
	b.ok(b.cat.ActivateTenant(b.Context(), made.Tenant.ID))
	return made.Token
}

func (b *bench) tenants(n int) {
	b.Helper()
	for i := range n {
		b.tenant(fmt.Sprintf("tenant-%02d", i), "")
	}
}

// worker delivers as a process of its own.
func (b *bench) worker(c *catalog.Catalog, url string) *mail.Delivery {
	b.Helper()
	return &mail.Delivery{
		Catalog: c, Sender: open(b, mail.Config{URL: url}), BaseURL: "https://ai.example.com",
		Logger: slog.New(slog.NewTextHandler(b.log, nil)),
	}
}

// due makes all that is owed due.
func (b *bench) due() {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.cfg.URL)
	b.ok(err)
	defer conn.Close(b.Context())
	_, err = conn.Exec(b.Context(), `update mail_outbox set next_at = now() - interval '1 s'`)
	b.ok(err)
}

// states counts the outbox by state.
func (b *bench) states() map[string]int {
	b.Helper()
	list, err := b.cat.OutboxMail(b.Context(), catalog.MailFilter{})
	b.ok(err)
	counts := map[string]int{}
	for _, m := range list {
		counts[m.State]++
	}
	return counts
}

func TestDeliver_welcome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := startPost(t, postConfig{})
	const name = `Müller & <b>Söhne</b> "Köln"`
	token := b.tenant("acme", name)
	b.ok(b.worker(b.cat, "smtp://127.0.0.1:"+p.port).Deliver(t.Context()))
	got := p.got()
	if len(got) != 1 || got[0].to != "acme@example.com" {
		t.Fatalf("arrived: %+v", got)
	}
	id := strings.Split(token, "_")[1]
	secret := strings.TrimPrefix(token, "fh_"+id+"_")
	m := parse(t, got[0].raw)
	if m.to.Name != name || m.subject != name+": your AI platform is ready" {
		t.Errorf("to %v, subject %q", m.to, m.subject)
	}
	for _, want := range []string{"https://ai.example.com/v1", "curl https://ai.example.com/v1/chat/completions", "$FREEHOLD_API_KEY", id} {
		if !strings.Contains(m.text, want) || !strings.Contains(m.html, want) {
			t.Errorf("%q isn't in both parts:\n%s\n%s", want, m.text, m.html)
		}
	}
	if !strings.Contains(m.text, name+" (acme)") || !strings.Contains(m.html, "Müller &amp; &lt;b&gt;Söhne&lt;/b&gt;") {
		t.Errorf("name in\n%s\n%s", m.text, m.html)
	}
	all := string(got[0].raw) + m.text + m.html + b.log.String()
	if strings.Contains(all, secret) || len(secret) < 20 {
		t.Error("the key is in the mail, or the log")
	}
	list, err := b.cat.OutboxMail(t.Context(), catalog.MailFilter{State: catalog.MailSent})
	b.ok(err)
	if len(list) != 1 || m.header.Get("Message-Id") != "<"+list[0].ID+"@freehold.example>" {
		t.Errorf("outbox %+v, Message-ID %s", list, m.header.Get("Message-Id"))
	}
	b.due()
	b.ok(b.worker(b.cat, "smtp://127.0.0.1:"+p.port).Deliver(t.Context()))
	if n := len(p.got()); n != 1 {
		t.Errorf("%d arrived after another delivery", n)
	}
}

// Two that deliver at once send each mail once.
func TestDeliver_twoAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := startPost(t, postConfig{})
	n := 20
	if pgtest.Long() {
		n = 200
	}
	b.tenants(n)
	workers := []*mail.Delivery{b.worker(b.cat, "smtp://127.0.0.1:"+p.port), b.worker(b.open(), "smtp://127.0.0.1:"+p.port)}
	for b.states()[catalog.MailWaiting] > 0 && t.Context().Err() == nil {
		var all sync.WaitGroup
		for _, w := range workers {
			all.Go(func() {
				if err := w.Deliver(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	seen := map[string]int{}
	for _, l := range p.got() {
		seen[l.to]++
	}
	if len(seen) != n || len(p.got()) != n {
		t.Errorf("%d letters to %d tenants, want %d", len(p.got()), len(seen), n)
	}
}

// A server that is away has its mail tried again, and delivers nothing twice.
func TestDeliver_serverComesBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tenants(3)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a port that nobody listens on, once it is closed
	b.ok(err)
	b.ok(ln.Close())
	w := b.worker(b.cat, "smtp://"+ln.Addr().String())
	b.ok(w.Deliver(t.Context()))
	list, err := b.cat.OutboxMail(t.Context(), catalog.MailFilter{})
	b.ok(err)
	tried := 0
	for _, m := range list {
		if m.State != catalog.MailWaiting || m.Attempts == 1 && m.Error != "mail server: connect: connection refused" || !m.NextAt.After(time.Now()) {
			t.Errorf("while the server is away: %+v", m)
		}
		tried += m.Attempts
	}
	if tried == 0 {
		t.Error("nothing was tried")
	}
	b.due()
	p := startPost(t, postConfig{addr: ln.Addr().String()})
	b.ok(w.Deliver(t.Context()))
	if states := b.states(); states[catalog.MailSent] != 3 || len(p.got()) != 3 {
		t.Errorf("%v, %d arrived", states, len(p.got()))
	}
}

// One that is refused for good is given up at once and stands among what is stuck;
// the others don't notice.
func TestDeliver_refused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tenants(10)
	p := startPost(t, postConfig{})
	p.onRcpt = func(to string) error {
		if to == "tenant-03@example.com" {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: to + " is unknown"}
		}
		return nil
	}
	b.ok(b.worker(b.cat, "smtp://127.0.0.1:"+p.port).Deliver(t.Context()))
	if states := b.states(); states[catalog.MailSent] != 9 || states[catalog.MailGivenUp] != 1 {
		t.Errorf("outbox: %v", states)
	}
	stuck, err := b.cat.StuckMail(t.Context())
	b.ok(err)
	if len(stuck) != 1 || stuck[0].Slug != "tenant-03" || stuck[0].Error != "refused for good: name the recipient: reply 550 5.1.1" {
		t.Errorf("stuck: %+v", stuck)
	}
	if log := b.log.String(); strings.Count(log, "level=ERROR") != 1 || strings.Contains(log, "@example.com") {
		t.Errorf("log:\n%s", log)
	}
}

// A server that never answers holds a delivery up for one message's time.
func TestDeliver_silentServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tenants(10)
	w := b.worker(b.cat, "smtp://127.0.0.1:"+silent(t, ""))
	w.Sender.Within(300 * time.Millisecond)
	began := time.Now()
	b.ok(w.Deliver(t.Context()))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
	list, err := b.cat.OutboxMail(t.Context(), catalog.MailFilter{})
	b.ok(err)
	tried := 0
	for _, m := range list {
		tried += m.Attempts
		if m.Attempts > 1 || m.State != catalog.MailWaiting {
			t.Errorf("after silence: %+v", m)
		}
	}
	if tried == 0 || tried > 4 {
		t.Errorf("%d tried at a server that is silent", tried)
	}
	// One that is stopped leaves what it took as it was, but for two minutes.
	b.due()
	w.Sender.Within(20 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := w.Deliver(ctx); err != nil {
		t.Error(err)
	}
	after, err := b.cat.OutboxMail(t.Context(), catalog.MailFilter{})
	b.ok(err)
	for _, m := range after {
		tried -= m.Attempts
	}
	if tried != 0 || time.Since(began) > 8*time.Second {
		t.Errorf("stopping counted %d tries, after %s", -tried, time.Since(began))
	}
}

// A sender that dies between sending and recording has its mail sent again, and
// whoever reads it can tell that it is the same.
func TestDeliver_killedBeforeTheRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tenants(1)
	p := startPost(t, postConfig{})
	victim := b.open()
	var once sync.Once
	p.onData = func() error {
		once.Do(victim.Close)
		return nil
	}
	url := "smtp://127.0.0.1:" + p.port
	if err := b.worker(victim, url).Deliver(t.Context()); err == nil {
		t.Error("nothing is recorded, and nothing is said")
	}
	w := b.worker(b.cat, url)
	b.ok(w.Deliver(t.Context()))
	if n := len(p.got()); n != 1 {
		t.Fatalf("%d arrived before it was due again", n)
	}
	b.due()
	b.ok(w.Deliver(t.Context()))
	got := p.got()
	if len(got) != 2 || string(got[0].raw) != string(got[1].raw) || b.states()[catalog.MailSent] != 1 {
		t.Fatalf("%d arrived, %v", len(got), b.states())
	}
	if id := parse(t, got[0].raw).header.Get("Message-Id"); id == "" || id != parse(t, got[1].raw).header.Get("Message-Id") {
		t.Errorf("Message-ID %q", id)
	}
}

// What this release has no letter for, or lacks something, is nobody's to send, and
// holds nobody up.
func TestDeliver_letters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tenants(3)
	conn, err := pgx.Connect(t.Context(), b.cfg.URL)
	b.ok(err)
	defer conn.Close(t.Context())
	for slug, set := range map[string]string{"tenant-00": `kind = 'of-tomorrow'`, "tenant-01": `detail = '{"nokey": "x"}'`} {
		_, err = conn.Exec(t.Context(), `update mail_outbox set `+set+` where tenant = (select id from tenants where slug = $1)`, slug)
		b.ok(err)
	}
	dir := t.TempDir()
	b.ok(b.worker(b.cat, "file://"+dir).Deliver(t.Context()))
	list, err := b.cat.OutboxMail(t.Context(), catalog.MailFilter{})
	b.ok(err)
	want := map[string]string{
		"tenant-00": "waiting no letter for this kind of mail",
		"tenant-01": "given_up refused for good: its detail lacks what the letter welcome tells",
		"tenant-02": "sent ",
	}
	for _, m := range list {
		if got := m.State + " " + m.Error; got != want[m.Slug] {
			t.Errorf("%s: %q, want %q", m.Slug, got, want[m.Slug])
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files: %v %v", files, err)
	}
	raw, err := os.ReadFile(files[0])
	b.ok(err)
	if m := parse(t, raw); m.to.Address != "tenant-02@example.com" {
		t.Errorf("to %v", m.to)
	}
	if out, err := json.Marshal(list[0]); err != nil || strings.Contains(string(out), "detail") {
		t.Errorf("%s %v", out, err)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
