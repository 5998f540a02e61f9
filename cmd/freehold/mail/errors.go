package mail

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"syscall"
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrRefused is returned for a message that will be refused each time: the
	// server doesn't take it, or not for this recipient, or nobody could.
	ErrRefused = errors.New("refused for good")
	// ErrServer is returned when the mail server can't be used now: it can't be
	// reached, or doesn't let us in. It would go no better with another message.
	ErrServer = errors.New("mail server")
	// ErrConfig is wrapped by every refusal of a Config; the text names the field
	// and quotes nothing.
	ErrConfig = errors.New("mail configuration")
)

// failure is a step of a session that went wrong, as it may be told: what a server
// says quotes addresses, and may quote more, so only its codes are kept.
type failure struct {
	doing string
	err   error
	kind  error // ErrRefused, ErrServer, or nil: this message, this time
}

func (f *failure) Error() string {
	text := f.doing + ": " + reason(f.err)
	if f.kind != nil {
		text = f.kind.Error() + ": " + text
	}
	return text
}

func (f *failure) Unwrap() error { return f.kind }

// aboutServer is a failure in what comes before any message.
func aboutServer(doing string, err error) error { return &failure{doing, err, ErrServer} }

// aboutMessage is a failure of this message, unless the connection broke.
func aboutMessage(doing string, err error) error {
	var said *textproto.Error
	switch {
	case !errors.As(err, &said) || said.Code == serviceGone:
		return &failure{doing, err, ErrServer}
	case permanent(said.Code):
		return &failure{doing, err, ErrRefused}
	}
	return &failure{doing, err, nil}
}

const (
	serviceGone   = 421
	syntaxOfValue = 501 // the address, where a recipient is named
)

// permanent tells the replies that speak of the message or its recipient for good
// (RFC 5321, 4.2.1: 5 for good, then 5 for the mail system), from those that speak
// of the session, such as 530 for a login that is wanted. Those an operator mends.
func permanent(code int) bool { return code/10 == 55 || code == syntaxOfValue }

var enhancedCode = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}\b`)

// reason says what went wrong without quoting whoever it went wrong with.
func reason(err error) string {
	var said *textproto.Error
	var cert *tls.CertificateVerificationError
	var errno syscall.Errno
	var dns *net.DNSError
	var record tls.RecordHeaderError
	var network net.Error
	var alert tls.AlertError
	switch {
	case errors.As(err, &said):
		return strings.TrimSpace(fmt.Sprintf("reply %d %s", said.Code, enhancedCode.FindString(said.Msg)))
	case errors.As(err, &cert):
		return "its certificate is not to be trusted: " + cert.Err.Error() // names hosts alone
	case errors.As(err, &record):
		return "it does not speak TLS there"
	case errors.As(err, &alert):
		return "TLS: " + alert.Error()
	case errors.As(err, &dns):
		return "its name is not known"
	case errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, errNoTLS), errors.Is(err, errNoLogin):
		return err.Error()
	}
	return "the connection broke"
}
