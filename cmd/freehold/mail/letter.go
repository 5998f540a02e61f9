package mail

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"strings"
	"text/template"

	"freehold/catalog"
)

// Each kind of mail has three files: NAME.subject, NAME.txt and NAME.html.
//
//go:embed letter
var letters embed.FS

var (
	plainLetters = template.Must(template.New("").Option("missingkey=error").ParseFS(letters, "letter/*.subject", "letter/*.txt"))
	htmlLetters  = htmltemplate.Must(htmltemplate.New("").Option("missingkey=error").ParseFS(letters, "letter/*.html"))
)

// errLetter is returned for a mail that this release has no letter for. A newer
// one wrote it, and sends it.
var errLetter = errors.New("no letter for this kind of mail")

// content is what a letter can tell: names and ids, each of them one line.
type content struct {
	Name, Slug string
	BaseURL    string // of the tenants' API, without /v1
	Detail     map[string]string
}

// compose renders what the outbox owes.
func compose(m catalog.Mail, baseURL string) (Message, error) {
	if plainLetters.Lookup(m.Kind+".txt") == nil {
		return Message{}, errLetter
	}
	c := content{Name: oneLine(m.Name), Slug: oneLine(m.Slug), BaseURL: baseURL}
	if err := json.Unmarshal(m.Detail, &c.Detail); err != nil {
		return Message{}, fmt.Errorf("%w: its detail is not a flat object", ErrRefused)
	}
	for key, value := range c.Detail {
		c.Detail[key] = oneLine(value)
	}
	if c.Name == "" {
		c.Name = c.Slug
	}
	var subject, text, html strings.Builder
	err := errors.Join(
		plainLetters.ExecuteTemplate(&subject, m.Kind+".subject", c),
		plainLetters.ExecuteTemplate(&text, m.Kind+".txt", c),
		htmlLetters.ExecuteTemplate(&html, m.Kind+".html", c))
	if err != nil {
		return Message{}, fmt.Errorf("%w: its detail lacks what the letter %s tells", ErrRefused, m.Kind)
	}
	return Message{
		ID: m.ID, To: m.Recipient, Name: c.Name, Date: m.CreatedAt,
		Subject: oneLine(subject.String()), Text: text.String(), HTML: html.String(),
	}, nil
}
