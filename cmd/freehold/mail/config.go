package mail

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// Config says where mail goes and from whom it comes. URL and From are required.
type Config struct {
	// URL is smtp://user@host:587 (STARTTLS), smtps://user@host:465 or
	// file:///dir. TLS with a certificate that is to be trusted is required, but of
	// smtp to loopback, or with ?insecure=1.
	URL string
	// Password of the URL's user.
	Password string
	// From is an address, with a display name or without.
	From string
	// Roots are the authorities to trust; nil: the system's.
	Roots *x509.CertPool
}

// target is where a Config's URL leads.
type target struct {
	dir string // set: to files

	host, port, user string
	implicit         bool // TLS from the first byte
	lax              bool // may go in the clear, or to a certificate that nobody vouches for
}

// CheckURL reports what is wrong with a Config's URL. It quotes nothing of it.
func CheckURL(text string) error {
	_, err := parseTarget(text)
	return err
}

func parseTarget(text string) (target, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return target{}, errors.New("want smtp://user@host:587, smtps://user@host:465 or file:///dir")
	case u.Fragment != "" || u.Opaque != "":
		return target{}, errors.New("want neither fragment nor a path without slashes")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || u.User != nil || u.RawQuery != "" || !filepath.IsAbs(u.Path) {
			return target{}, errors.New("of files: want file:///dir, an absolute path alone")
		}
		return target{dir: u.Path}, nil
	case "smtp", "smtps":
		return parseServer(u)
	}
	return target{}, errors.New("want smtp://, smtps:// or file://")
}

func parseServer(u *url.URL) (target, error) {
	to := target{host: u.Hostname(), port: u.Port(), user: u.User.Username(), implicit: u.Scheme == "smtps"}
	if to.port == "" {
		to.port = map[bool]string{true: "465", false: "587"}[to.implicit]
	}
	var errs []error
	if to.host == "" || strings.ContainsFunc(to.host, unsafe) {
		errs = append(errs, errors.New("names no host"))
	}
	if n, err := strconv.Atoi(to.port); err != nil || n < 1 || n > 65535 {
		errs = append(errs, errors.New("want a port of 1 to 65535"))
	}
	if _, has := u.User.Password(); has {
		errs = append(errs, errors.New("holds a password: it belongs into a file of its own"))
	}
	if u.Path != "" && u.Path != "/" {
		errs = append(errs, errors.New("a mail server has no path"))
	}
	query, err := url.ParseQuery(u.RawQuery)
	insecure := query.Get("insecure") == "1"
	if err != nil || len(query) > 1 || len(query) == 1 && !insecure {
		errs = append(errs, errors.New("the one option is insecure=1"))
	}
	to.lax = insecure || !to.implicit && loopback(to.host)
	return to, errors.Join(errs...)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// CheckFrom reports what is wrong with a Config's From.
func CheckFrom(text string) error {
	_, err := parseFrom(text)
	return err
}

func parseFrom(text string) (*netmail.Address, error) {
	a, err := netmail.ParseAddress(text)
	if err != nil || !plain(a.Address) {
		return nil, errors.New("want one address, as in Freehold <post@example.com>")
	}
	return a, nil
}

// plain reports whether an address can be named in a command as it is.
func plain(address string) bool {
	return !strings.ContainsFunc(address, unsafe) && !strings.ContainsAny(address, `<>"\,;:`)
}

// unsafe are the characters that begin something else in a command or a header.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar
}

func (c Config) parse() (to target, from *netmail.Address, err error) {
	to, err = parseTarget(c.URL)
	mistakes := []error{about("URL", err)}
	if err == nil && (to.user == "") != (c.Password == "") {
		mistakes = append(mistakes, about("Password", errors.New("the URL's user and a password go together")))
	}
	from, err = parseFrom(c.From)
	return to, from, errors.Join(append(mistakes, about("From", err))...)
}

func about(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrConfig, field, err)
}
