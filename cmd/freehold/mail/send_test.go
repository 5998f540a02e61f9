package mail_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"freehold/cmd/freehold/mail"
	"freehold/migrations/pgtest"
)

const (
	anID     = "0197b9a0-4c1e-7c3a-9b1e-2f6d3c5a7e10"
	password = "hunter2-hunter2"
)

func message() mail.Message {
	return mail.Message{
		ID: anID, To: "jürgen@example.com", Name: `Müller & Söhne, "Köln"`, Subject: "Grüße: ready",
		Text: "plain ☃ text\n.\nafter a lone dot\n", HTML: "<p>rich ☃ text</p>", Date: time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC),
	}
}

func open(t testing.TB, cfg mail.Config) *mail.Sender {
	t.Helper()
	cfg.From = "Frühling <post@freehold.example>"
	s, err := mail.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// 0.0.0.0 leads to this machine without being a loopback address: what holds for
// it holds for every remote server.
func TestSend(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		post     postConfig
		url      string // PORT is the server's
		password string
		tls      bool
	}{
		"clear, on loopback":            {postConfig{}, "smtp://127.0.0.1:PORT", "", false},
		"STARTTLS offered, on loopback": {postConfig{tls: true}, "smtp://127.0.0.1:PORT", "", true},
		"STARTTLS":                      {postConfig{tls: true, password: password}, "smtp://freehold@0.0.0.0:PORT", password, true},
		"TLS":                           {postConfig{implicit: true, password: password}, "smtps://freehold@0.0.0.0:PORT/", password, true},
		"clear, on the operator's word": {postConfig{password: password}, "smtp://freehold@0.0.0.0:PORT?insecure=1", password, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPost(t, c.post)
			s := open(t, mail.Config{URL: strings.ReplaceAll(c.url, "PORT", p.port), Password: c.password, Roots: p.roots})
			if err := s.Send(t.Context(), message()); err != nil {
				t.Fatal(err)
			}
			got := p.got()
			if len(got) != 1 {
				t.Fatalf("%d arrived", len(got))
			}
			if l := got[0]; l.from != "post@freehold.example" || l.to != "jürgen@example.com" || l.tls != c.tls || l.user != strings.Repeat("freehold", min(1, len(c.password))) {
				t.Errorf("%s to %s, TLS %v, user %q", l.from, l.to, l.tls, l.user)
			}
			looksRight(t, got[0].raw)
		})
	}
}

func looksRight(t *testing.T, raw []byte) {
	t.Helper()
	m := parse(t, raw)
	from, err := m.header.AddressList("From")
	if err != nil || len(from) != 1 || from[0].Name != "Frühling" || from[0].Address != "post@freehold.example" {
		t.Errorf("From: %v %v", from, err)
	}
	if m.to.Name != `Müller & Söhne, "Köln"` || m.to.Address != "jürgen@example.com" || m.subject != "Grüße: ready" {
		t.Errorf("to %v, subject %q", m.to, m.subject)
	}
	if strings.ReplaceAll(m.text, "\r\n", "\n") != message().Text || m.html != message().HTML {
		t.Errorf("text %q, HTML %q", m.text, m.html)
	}
	date, err := m.header.Date()
	if err != nil || !date.Equal(message().Date) || m.header.Get("Message-Id") != "<"+anID+"@freehold.example>" || m.header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("header %v", m.header)
	}
}

// What a server answers decides whether the message, or the server, is at fault,
// and for how long; nothing of its words is passed on.
func TestSend_answers(t *testing.T) {
	t.Parallel()
	reply := func(code int, enhanced ...int) error {
		e := smtp.SMTPError{Code: code, Message: "about jürgen@example.com " + password}
		if copy(e.EnhancedCode[:], enhanced) == 0 {
			e.EnhancedCode = smtp.NoEnhancedCode
		}
		return &e
	}
	always := func(err error) func(string) error { return func(string) error { return err } }
	for name, c := range map[string]struct {
		set  func(*post)
		want error // nil: this message, this time
		text string
	}{
		"unknown recipient":  {func(p *post) { p.onRcpt = always(reply(550, 5, 1, 1)) }, mail.ErrRefused, "refused for good: name the recipient: reply 550 5.1.1"},
		"malformed address":  {func(p *post) { p.onRcpt = always(reply(501)) }, mail.ErrRefused, "refused for good: name the recipient: reply 501"},
		"greylisted":         {func(p *post) { p.onRcpt = always(reply(451, 4, 7, 1)) }, nil, "name the recipient: reply 451 4.7.1"},
		"login wanted":       {func(p *post) { p.onRcpt = always(reply(530, 5, 7, 0)) }, nil, "name the recipient: reply 530 5.7.0"},
		"spam":               {func(p *post) { p.onData = func() error { return reply(554, 5, 7, 1) } }, mail.ErrRefused, "refused for good: send the message: reply 554 5.7.1"},
		"full":               {func(p *post) { p.onData = func() error { return reply(452, 4, 2, 2) } }, nil, "send the message: reply 452 4.2.2"},
		"closing":            {func(p *post) { p.onRcpt = always(reply(421, 4, 3, 2)) }, mail.ErrServer, "mail server: name the recipient: reply 421 4.3.2"},
		"sender not allowed": {func(p *post) { p.onMail = always(reply(550, 5, 7, 1)) }, mail.ErrServer, "mail server: name the sender: reply 550 5.7.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPost(t, postConfig{})
			c.set(p)
			err := open(t, mail.Config{URL: "smtp://127.0.0.1:" + p.port}).Send(t.Context(), message())
			fails(t, err, c.want, c.text)
		})
	}
}

// fails wants an error of one kind alone, with this text.
func fails(t *testing.T, err, want error, text string) {
	t.Helper()
	if err == nil || err.Error() != text {
		t.Errorf("error is %v, want %s", err, text)
	}
	for _, kind := range []error{mail.ErrRefused, mail.ErrServer} {
		if errors.Is(err, kind) != errors.Is(want, kind) {
			t.Errorf("%v: is %v: %v", err, kind, errors.Is(err, kind))
		}
	}
}

// Neither password nor message goes where nobody vouches for who listens.
func TestSend_insecureServers(t *testing.T) {
	t.Parallel()
	clear := startPost(t, postConfig{password: password})
	encrypted := startPost(t, postConfig{implicit: true, password: password})
	upgraded := startPost(t, postConfig{tls: true, password: password})
	for _, c := range []struct {
		url, password, text string
		roots               *x509.CertPool
	}{
		{"smtp://freehold@0.0.0.0:" + clear.port, password, "mail server: begin TLS: it offers no TLS (insecure=1 in the URL would do without)", nil},
		{"smtps://freehold@0.0.0.0:" + clear.port, password, "mail server: greet: it does not speak TLS there", nil},
		{"smtps://freehold@127.0.0.1:" + encrypted.port, password, "mail server: greet: its certificate is not to be trusted: x509: certificate signed by unknown authority", x509.NewCertPool()},
		{"smtp://freehold@0.0.0.0:" + upgraded.port, password, "mail server: begin TLS: its certificate is not to be trusted: x509: certificate signed by unknown authority", x509.NewCertPool()},
		{"smtp://freehold@0.0.0.0:" + upgraded.port, "another-" + password, "mail server: log in: reply 535 5.7.8", upgraded.roots},
		{"smtp://0.0.0.0:" + upgraded.port, "", "mail server: name the sender: reply 502 5.7.0", upgraded.roots},
	} {
		err := open(t, mail.Config{URL: c.url, Password: c.password, Roots: c.roots}).Send(t.Context(), message())
		fails(t, err, mail.ErrServer, c.text)
	}
	if n := clear.loginCount() + encrypted.loginCount(); n != 0 || upgraded.loginCount() != 1 {
		t.Errorf("%d logins where none may be, %d with the wrong password", n, upgraded.loginCount())
	}
	if n := len(clear.got()) + len(encrypted.got()) + len(upgraded.got()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}

func TestSend_unreachable(t *testing.T) {
	t.Parallel()
	gone := startPost(t, postConfig{})
	for at, text := range map[string]string{
		"127.0.0.1:1":       "mail server: connect: connection refused",
		"nowhere.invalid:1": "mail server: connect: its name is not known",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		fails(t, open(t, mail.Config{URL: "smtp://" + at + "?insecure=1"}).Send(ctx, message()), mail.ErrServer, text)
	}
	if len(gone.got()) != 0 {
		t.Error("a message went elsewhere")
	}
}

// A server that accepts and then says nothing holds a sender up for so long and
// no longer; one that is stopped isn't held up at all.
func TestSend_silentServer(t *testing.T) {
	t.Parallel()
	const mute = "220 post.test ESMTP\r\n"
	for _, greeting := range []string{"", mute} {
		s := open(t, mail.Config{URL: "smtp://127.0.0.1:" + silent(t, greeting)})
		limit := 20 * time.Second
		if !pgtest.Long() {
			limit = 300 * time.Millisecond
			s.Within(limit)
		}
		began := time.Now()
		fails(t, s.Send(t.Context(), message()), mail.ErrServer, "mail server: greet: no answer in time")
		if took := time.Since(began); took < limit || took > limit+3*time.Second {
			t.Errorf("gave up after %s", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		began = time.Now()
		if err := s.Within(20*time.Second).Send(ctx, message()); !errors.Is(err, mail.ErrServer) || time.Since(began) > 3*time.Second {
			t.Errorf("stopped after %s: %v", time.Since(began), err)
		}
	}
}

// Whatever a name holds is one line of one header; what isn't one address is
// never named to a server.
func TestSend_injection(t *testing.T) {
	t.Parallel()
	p := startPost(t, postConfig{})
	s := open(t, mail.Config{URL: "smtp://127.0.0.1:" + p.port})
	m := message()
	m.To = "victim@example.com"
	m.Name = "Acme\r\nBcc: all@example.com\r\n\r\n<script>\x00\u2028\"<a@b.example>,"
	m.Subject = "Hi\nReply-To: evil@example.com\r\n.\r\nMAIL FROM:<x@y>"
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := p.got()
	if len(got) != 1 || got[0].to != "victim@example.com" {
		t.Fatalf("arrived: %+v", got)
	}
	read := parse(t, got[0].raw)
	if read.header.Get("Bcc") != "" || read.header.Get("Reply-To") != "" || len(read.header) != 8 {
		t.Errorf("header %v", read.header)
	}
	if read.to.Name != `Acme Bcc: all@example.com <script> "<a@b.example>,` || read.subject != "Hi Reply-To: evil@example.com . MAIL FROM:<x@y>" {
		t.Errorf("to %q, subject %q", read.to.Name, read.subject)
	}
	for _, to := range []string{
		"", "nobody", "a@b.example, c@d.example", "a@b.example\r\nRCPT TO:<c@d.example>", "a@b.example> SIZE=1",
		`"a> NOTIFY=NEVER"@b.example`, `"a b"@c.example`, "group: a@b.example, c@d.example;", "a@[::1]", "\x00@b.example",
	} {
		m := message()
		m.To = to
		fails(t, s.Send(t.Context(), m), mail.ErrRefused, "refused for good: its recipient is not one address")
	}
	for _, id := range []string{"", "x", "../../../../etc/cron.d/0197b9a0-4c1e", strings.ToUpper(anID), anID + "\r\nX: y"} {
		m := message()
		m.ID = id
		fails(t, s.Send(t.Context(), m), mail.ErrRefused, "refused for good: its id is not a uuid")
	}
	if n := len(p.got()); n != 1 {
		t.Errorf("%d messages arrived", n)
	}
}

// The same message is the same file.
func TestSend_files(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "with space", "mail")
	s := open(t, mail.Config{URL: (&url.URL{Scheme: "file", Path: dir}).String()})
	path := filepath.Join(dir, anID+".eml")
	var before []byte
	for range 2 {
		if err := s.Send(t.Context(), message()); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		looksRight(t, raw)
		if before != nil && string(before) != string(raw) {
			t.Error("the second one differs")
		}
		before = raw
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("files: %v %v", files, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("%v %v", info, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), message()); !errors.Is(err, mail.ErrServer) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its folder: %v", err)
	}
}

func TestOpen_mistakes(t *testing.T) {
	t.Parallel()
	const from = "post@example.com"
	for _, c := range []struct{ url, password, from, want string }{
		{"", "", from, "URL: want smtp://"},
		{"http://h", "", from, "URL: want smtp://"},
		{"smtp:h", "", from, "URL: want neither"},
		{"smtp://", "", from, "URL: names no host"},
		{"smtp://h:0", "", from, "URL: want a port"},
		{"smtp://u:" + password + "@h", password, from, "URL: holds a password"},
		{"smtp://u:" + password + "@h:%zz", password, from, "URL: want smtp://user@host:587"},
		{"smtp://h/path", "", from, "URL: a mail server has no path"},
		{"smtp://h?tls=0", "", from, "URL: the one option"},
		{"smtp://h?insecure=2", "", from, "URL: the one option"},
		{"smtp://h?insecure=1&x=1", "", from, "URL: the one option"},
		{"file://host/dir", "", from, "URL: of files"},
		{"file:///dir?x", "", from, "URL: of files"},
		{"file:dir", "", from, "URL: want neither"},
		{"smtp://u@h", "", from, "Password: the URL's user"},
		{"smtp://h", password, from, "Password: the URL's user"},
		{"smtp://h", "", "", "From: want one address"},
		{"smtp://h", "", "a@b, c@d", "From: want one address"},
		{"smtp://h", "", `"a b"@c`, "From: want one address"},
		{"smtp://h", "", "nobody", "From: want one address"},
	} {
		_, err := mail.Open(mail.Config{URL: c.url, Password: c.password, From: c.from})
		if !errors.Is(err, mail.ErrConfig) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v, want %s", c.url, err, c.want)
		}
	}
	_, err := mail.Open(mail.Config{URL: "smtp://u@h", From: "x"})
	for _, field := range []string{"Password: ", "From: "} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v doesn't name %s", err, field)
		}
	}
}
