package mail

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	netmail "net/mail"
	"os"
	"regexp"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Message is a mail that is ready to go.
type Message struct {
	ID         string // a uuid: of the outbox's row
	To         string // one address
	Name       string // of whoever reads it; may be empty
	Subject    string
	Text, HTML string
	Date       time.Time
}

// Sender hands messages on. It is safe for concurrent use and holds nothing open.
type Sender struct {
	to       target
	from     *netmail.Address
	password string
	roots    *x509.CertPool
	within   time.Duration // bounds one message, from the dial to the server's answer
}

// Open checks the configuration (ErrConfig, every mistake at once) and, for files,
// makes the folder. It doesn't connect: a mail server that is away stops nobody
// from starting.
func Open(cfg Config) (*Sender, error) {
	to, from, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	if to.dir != "" {
		if err := os.MkdirAll(to.dir, 0o700); err != nil {
			return nil, fmt.Errorf("folder for mail: %w", err)
		}
	}
	return &Sender{to: to, from: from, password: cfg.Password, roots: cfg.Roots, within: sendTime}, nil
}

const sendTime = 20 * time.Second

// Send hands one message on, within 20 s. It can be repeated: the message bears
// the same Message-ID each time, and as a file the same name, and is the same to
// the byte. Errors: ErrRefused when no repetition helps, ErrServer when no message
// could be sent now; else it is this message, this time.
func (s *Sender) Send(ctx context.Context, m Message) error {
	address, raw, err := s.compose(m)
	if err != nil {
		return err
	}
	if s.to.dir != "" {
		return writeFile(s.to.dir, m.ID+".eml", raw)
	}
	return s.deliver(ctx, address, raw)
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// compose makes the message's bytes. Whatever comes from outside is a value of one
// header line or of a part's body, and stays one.
func (s *Sender) compose(m Message) (recipient string, raw []byte, err error) {
	if !idPattern.MatchString(m.ID) {
		return "", nil, fmt.Errorf("%w: its id is not a uuid", ErrRefused)
	}
	to, err := netmail.ParseAddress(m.To)
	if err != nil || !plain(to.Address) {
		return "", nil, fmt.Errorf("%w: its recipient is not one address", ErrRefused)
	}
	to.Name = oneLine(m.Name)
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithBoundary("freehold-"+m.ID))
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(to)
	msg.Subject(oneLine(m.Subject))
	msg.SetDateWithValue(m.Date.UTC())
	msg.SetMessageIDWithValue(m.ID + "@" + s.domain())
	// Nobody's holiday notice is owed an answer (RFC 3834).
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return "", nil, fmt.Errorf("%w: it can't be put into mail's form", ErrRefused)
	}
	return to.Address, b.Bytes(), nil
}

// domain is the part of a Message-ID behind the @.
func (s *Sender) domain() string {
	_, domain, _ := strings.Cut(s.from.Address, "@")
	for _, r := range domain {
		if r > '~' {
			return "freehold.invalid" // a header of plain ASCII, and still the same each time
		}
	}
	return domain
}

// oneLine makes one line of a text: each run of blanks and control characters is
// a blank.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, ""), unsafe), " ")
}
