package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"freehold/catalog/queue"
	"freehold/cmd/freehold/mail"
)

// Mail is how mail leaves, as an operator writes it.
type Mail struct {
	URL          string // FREEHOLD_SMTP_URL; empty: mail stays in the outbox
	PasswordFile string // FREEHOLD_SMTP_PASSWORD_FILE, of the URL's user
	From         string // FREEHOLD_MAIL_FROM
}

func mailFromEnv(getenv func(string) string) Mail {
	return Mail{
		URL: getenv("FREEHOLD_SMTP_URL"), PasswordFile: getenv("FREEHOLD_SMTP_PASSWORD_FILE"),
		From: getenv("FREEHOLD_MAIL_FROM"),
	}
}

// check names each mistake by its variable.
func (m Mail) check() error {
	if m.URL == "" {
		return nil // what else is set waits for it
	}
	var errs []error
	if err := mail.CheckURL(m.URL); err != nil {
		errs = append(errs, fmt.Errorf("FREEHOLD_SMTP_URL: %w", err))
	} else if u, err := url.Parse(m.URL); err == nil && (u.User.Username() == "") != (m.PasswordFile == "") {
		errs = append(errs, errors.New("FREEHOLD_SMTP_PASSWORD_FILE: it goes together with a user in FREEHOLD_SMTP_URL"))
	}
	if _, err := m.password(); err != nil {
		errs = append(errs, err)
	}
	if m.From == "" {
		errs = append(errs, errors.New("FREEHOLD_MAIL_FROM is not set: who mail comes from, Freehold <post@example.com>"))
	} else if err := mail.CheckFrom(m.From); err != nil {
		errs = append(errs, fmt.Errorf("FREEHOLD_MAIL_FROM: %w", err))
	}
	return errors.Join(errs...)
}

// password reads the file; a final line break is not part of it.
func (m Mail) password() (string, error) {
	if m.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(filepath.Clean(m.PasswordFile))
	if err != nil {
		return "", fmt.Errorf("FREEHOLD_SMTP_PASSWORD_FILE: %w", err)
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		return "", fmt.Errorf("FREEHOLD_SMTP_PASSWORD_FILE: %s is empty", m.PasswordFile)
	}
	return s, nil
}

// open makes the sender.
func (m Mail) open() (*mail.Sender, error) {
	password, err := m.password()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return mail.Open(mail.Config{URL: m.URL, Password: password, From: m.From})
}

const mailChore = "mail"

// mailWork is the sending of mail, or nothing where no way for it is set.
func mailWork(p *Platform, cfg Config, log *slog.Logger) ([]queue.Periodic, error) {
	if cfg.Mail.URL == "" {
		log.Info("mail stays in the outbox: FREEHOLD_SMTP_URL is not set")
		return nil, nil
	}
	sender, err := cfg.Mail.open()
	if err != nil {
		return nil, err
	}
	if cfg.PublicURL == "" && !strings.HasPrefix(cfg.Mail.URL, "file:") {
		log.Warn("mail tells tenants where this process listens: FREEHOLD_PUBLIC_URL is not set", "base_url", cfg.baseURL())
	}
	d := &mail.Delivery{Catalog: p.Catalog, Sender: sender, BaseURL: cfg.baseURL(), Logger: log}
	return []queue.Periodic{
		{Name: mailChore, Every: 15 * time.Second, RunAtStart: true, Timeout: 3 * time.Minute, Run: d.Deliver},
	}, nil
}

// checkPublicURL wants what an API's paths can be put behind.
func (c Config) checkPublicURL() error {
	if c.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("FREEHOLD_PUBLIC_URL: want https://HOST, the tenants' API without /v1")
	}
	return nil
}

// baseURL is where tenants find their API, without /v1.
func (c Config) baseURL() string {
	if c.PublicURL != "" {
		return strings.TrimSuffix(strings.TrimRight(c.PublicURL, "/"), "/v1")
	}
	scheme := "http://"
	if c.TLSCert != "" {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return scheme + net.JoinHostPort("localhost", port) // a listener's every address is nobody's
	}
	return scheme + c.Listen
}
