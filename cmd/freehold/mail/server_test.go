package mail_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// letter is a mail as a server got it.
type letter struct {
	from, to string
	raw      []byte
	tls      bool
	user     string // who had logged in
}

// post is a mail server on loopback, for as long as a test runs.
type post struct {
	testing.TB
	port  string
	roots *x509.CertPool

	// Set before the first session; nil says yes to all.
	onMail, onRcpt func(address string) error
	onData         func() error

	mu      sync.Mutex // guards what follows
	letters []letter
	logins  int
}

type postConfig struct {
	addr     string // 127.0.0.1:0
	tls      bool   // STARTTLS, or from the first byte when implicit
	implicit bool
	password string // set: of user "freehold"
}

func startPost(t testing.TB, cfg postConfig) *post {
	t.Helper()
	if cfg.addr == "" {
		cfg.addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &post{TB: t}
	_, p.port, _ = net.SplitHostPort(ln.Addr().String())
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s := &session{post: p, conn: c}
		if cfg.password != "" {
			return &guarded{s, cfg.password}, nil
		}
		return s, nil
	}))
	server.Domain, server.EnableSMTPUTF8, server.AllowInsecureAuth = "post.test", true, true
	server.ErrorLog = log.New(io.Discard, "", 0)
	server.ReadTimeout, server.WriteTimeout = 10*time.Second, 10*time.Second
	if cfg.tls || cfg.implicit {
		var cert tls.Certificate
		cert, p.roots = certificate(t)
		conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		if cfg.implicit {
			ln = tls.NewListener(ln, conf)
		} else {
			server.TLSConfig = conf
		}
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			t.Errorf("mail server: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("mail server: %v", err)
		}
	})
	return p
}

// got is what has arrived.
func (p *post) got() []letter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]letter(nil), p.letters...)
}

func (p *post) loginCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logins
}

// session is one connection to a post.
type session struct {
	post *post
	conn *smtp.Conn
	letter
}

func (s *session) Reset()        { s.from, s.to = "", "" }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return ask(s.post.onMail, from)
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	return ask(s.post.onRcpt, to)
}

func ask(hook func(string) error, address string) error {
	if hook == nil {
		return nil
	}
	return hook(address)
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	l := s.letter
	l.raw = raw
	_, l.tls = s.conn.TLSConnectionState()
	s.post.mu.Lock()
	s.post.letters = append(s.post.letters, l)
	s.post.mu.Unlock()
	if s.post.onData != nil {
		return s.post.onData()
	}
	return nil
}

// guarded is a session that wants a login.
type guarded struct {
	*session
	password string
}

func (g *guarded) AuthMechanisms() []string { return []string{sasl.Plain} }

func (g *guarded) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		g.post.mu.Lock()
		defer g.post.mu.Unlock()
		g.post.logins++
		if user != "freehold" || password != g.password {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "no: " + user + " " + password}
		}
		g.user = user
		return nil
	}), nil
}

func (g *guarded) Mail(from string, o *smtp.MailOptions) error {
	if g.user == "" {
		return smtp.ErrAuthRequired
	}
	return g.session.Mail(from, o)
}

// certificate is one that is good for this machine, and what vouches for it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4zero}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// silent accepts connections, reads what comes, and never answers. With greeting
// it first says that.
func silent(t testing.TB, greeting string) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_, _ = io.WriteString(c, greeting)
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); conns.Wait() })
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// parsed is a mail as its reader's program shows it.
type parsed struct {
	header     netmail.Header
	subject    string
	to         *netmail.Address
	text, html string
}

func parse(t testing.TB, raw []byte) parsed {
	t.Helper()
	m, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, raw)
	}
	p := parsed{header: m.Header}
	if p.subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		t.Fatal(err)
	}
	list, err := m.Header.AddressList("To")
	if err != nil || len(list) != 1 {
		t.Fatalf("To: %q: %v", m.Header.Get("To"), err)
	}
	p.to = list[0]
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || media != "multipart/alternative" {
		t.Fatalf("%s: %v", media, err)
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil || part.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			t.Fatalf("%v: %v", part.Header, err)
		}
		switch kind := part.Header.Get("Content-Type"); {
		case strings.HasPrefix(kind, "text/plain; charset=UTF-8"):
			p.text += string(body)
		case strings.HasPrefix(kind, "text/html; charset=UTF-8"):
			p.html += string(body)
		default:
			t.Fatalf("a part of %s", kind)
		}
	}
}
