package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"
)

const (
	// dialTime bounds the dial, so that of a message's time most is left.
	dialTime = 8 * time.Second
	// quitTime bounds the goodbye.
	quitTime = time.Second
)

var (
	errNoTLS   = errors.New("it offers no TLS (insecure=1 in the URL would do without)")
	errNoLogin = errors.New("it offers no login that is known here")
)

// deliver holds one session with the server, which ends in any case when ctx does,
// or the message's time.
func (s *Sender) deliver(ctx context.Context, recipient string, raw []byte) error {
	late := time.Now().Add(s.within)
	dialer := net.Dialer{Timeout: min(dialTime, s.within)}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(s.to.host, s.to.port))
	if err != nil {
		return aboutServer("connect", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(late); err != nil {
		return aboutServer("connect", err)
	}
	// The client below doesn't know contexts: its calls end with the connection.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	client, err := s.begin(conn)
	if err != nil {
		return err
	}
	if err := s.hand(client, recipient, raw); err != nil {
		return err
	}
	// It is the server's now, whatever comes of the goodbye.
	if conn.SetDeadline(time.Now().Add(quitTime)) == nil {
		_ = client.Quit()
	}
	return nil
}

// begin greets, and sees to TLS and the login.
func (s *Sender) begin(conn net.Conn) (*smtp.Client, error) {
	conf := &tls.Config{
		ServerName: s.to.host, RootCAs: s.roots, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: s.to.lax, //nolint:gosec // where the clear would do, a certificate that nobody vouches for does
	}
	if s.to.implicit {
		conn = tls.Client(conn, conf)
	}
	client, err := smtp.NewClient(conn, s.to.host)
	if err != nil {
		return nil, aboutServer("greet", err)
	}
	if err := client.Hello(helloName()); err != nil {
		return nil, aboutServer("greet", err)
	}
	if !s.to.implicit {
		switch offered, _ := client.Extension("STARTTLS"); {
		case offered:
			if err := client.StartTLS(conf); err != nil {
				return nil, aboutServer("begin TLS", err)
			}
		case !s.to.lax:
			return nil, aboutServer("begin TLS", errNoTLS)
		}
	}
	if s.to.user != "" {
		if err := s.logIn(client); err != nil {
			return nil, aboutServer("log in", err)
		}
	}
	return client, nil
}

// logIn uses the first way that the server offers. What the password is sent
// over was decided before.
func (s *Sender) logIn(client *smtp.Client) error {
	_, offered := client.Extension("AUTH")
	for _, way := range []struct {
		name string
		auth smtp.Auth
	}{
		{"PLAIN", smtp.PlainAuth("", s.to.user, s.password, s.to.host, s.to.lax)},
		{"LOGIN", smtp.LoginAuth(s.to.user, s.password, s.to.host, s.to.lax)},
		{"SCRAM-SHA-256", smtp.ScramSHA256Auth(s.to.user, s.password)},
	} {
		for name := range strings.FieldsSeq(offered) {
			if strings.EqualFold(name, way.name) {
				return client.Auth(way.auth)
			}
		}
	}
	return errNoLogin
}

// hand gives the server the message.
func (s *Sender) hand(client *smtp.Client, recipient string, raw []byte) error {
	if err := client.Mail("<" + s.from.Address + ">"); err != nil {
		return aboutServer("name the sender", err) // ours: no other message has another
	}
	if err := client.Rcpt("<" + recipient + ">"); err != nil {
		return aboutMessage("name the recipient", err)
	}
	body, err := client.Data()
	if err != nil {
		return aboutMessage("send the message", err)
	}
	_, err = body.Write(raw)
	// Closed in any case: the answer says why a server stopped reading.
	err = errors.Join(body.Close(), err)
	if err != nil {
		return aboutMessage("send the message", err)
	}
	return nil
}

// helloName is what this machine calls itself: a name that isn't one of a domain
// is refused by some.
func helloName() string {
	name, err := os.Hostname()
	if err != nil || !strings.Contains(name, ".") || strings.ContainsFunc(name, func(r rune) bool { return unsafe(r) || r > '~' }) {
		return "localhost"
	}
	return name
}
