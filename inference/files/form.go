package files

import (
	"fmt"
	"io"
	"mime/multipart"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"freehold/inference"
	"freehold/tenantdb"
)

const (
	// maxParts is more than a form that is taken can have.
	maxParts = 8
	maxName  = 255
	maxField = 1 << 10
	// As OpenAI bounds it: an hour to thirty days.
	minExpiry, maxExpiry = 3600, 2592000
	// defaultName is what clients call a file that has no name.
	defaultName = "anonymous_file"
)

// Purposes are those that an upload may have.
func Purposes() []string { return []string{tenantdb.PurposeFineTune, tenantdb.PurposeUserData} }

const (
	fieldPurpose = "purpose"
	fieldAnchor  = "expires_after[anchor]"
	fieldSeconds = "expires_after[seconds]"
)

// fields are a form's, beside its file.
type fields struct {
	purpose string
	anchor  string
	seconds int64
	given   map[string]bool
}

// take reads a field, and refuses what is unknown, given twice or wrong.
func (f *fields) take(part *multipart.Part) error {
	name := part.FormName()
	if name != fieldPurpose && name != fieldAnchor && name != fieldSeconds {
		return unknown(name)
	}
	if f.given[name] {
		return &inference.BadRequest{Param: name, Message: fmt.Sprintf("%q was given twice.", name)}
	}
	if f.given == nil {
		f.given = map[string]bool{}
	}
	f.given[name] = true
	b, err := io.ReadAll(io.LimitReader(part, maxField+1))
	if err != nil {
		return &inference.BadRequest{Message: "The form is malformed."}
	}
	if len(b) > maxField {
		return &inference.BadRequest{Param: name, Message: fmt.Sprintf("%q is too long.", name)}
	}
	value := string(b)
	switch name {
	case fieldPurpose:
		return f.takePurpose(value)
	case fieldAnchor:
		if value != "created_at" {
			return &inference.BadRequest{Param: name, Message: "expires_after[anchor] must be created_at."}
		}
		f.anchor = value
	case fieldSeconds:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < minExpiry || n > maxExpiry {
			return &inference.BadRequest{Param: name, Message: fmt.Sprintf("expires_after[seconds] must be a number from %d to %d.", minExpiry, maxExpiry)}
		}
		f.seconds = n
	}
	return nil
}

func (f *fields) takePurpose(value string) error {
	for _, p := range Purposes() {
		if p == value {
			f.purpose = p
			return nil
		}
	}
	message := fmt.Sprintf("Unknown purpose: this platform takes %s.", strings.Join(Purposes(), " and "))
	if printable(value) {
		message = fmt.Sprintf("The purpose %q is not supported: this platform takes %s.", value, strings.Join(Purposes(), " and "))
	}
	return &inference.BadRequest{Param: fieldPurpose, Message: message}
}

// complete refuses when something is missing.
func (f *fields) complete() error {
	switch {
	case f.purpose == "":
		return missing(fieldPurpose)
	case f.anchor != "" && f.seconds == 0:
		return missing(fieldSeconds)
	case f.anchor == "" && f.seconds != 0:
		return missing(fieldAnchor)
	}
	return nil
}

func missing(name string) error {
	return &inference.BadRequest{Param: name, Message: fmt.Sprintf("Missing required parameter: %q.", name)}
}

func unknown(name string) error {
	if !printable(name) {
		return &inference.BadRequest{Message: "The form has a part without a name, or with an unknown one."}
	}
	return &inference.BadRequest{Param: name, Message: fmt.Sprintf("Unknown parameter: %q.", name)}
}

// printable reports whether an answer may repeat s.
func printable(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// nameOf is the base of the name that the client gave its file: a path is the
// client's own business.
func nameOf(part *multipart.Part) (string, error) {
	name := part.FileName()
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	switch {
	case name == "" || name == "." || name == "..":
		return defaultName, nil
	case len(name) > maxName:
		return "", &inference.BadRequest{Param: "file", Message: fmt.Sprintf("The file's name is longer than %d bytes.", maxName)}
	case !utf8.ValidString(name) || strings.ContainsFunc(name, hidden):
		return "", &inference.BadRequest{Param: "file", Message: "The file's name is not UTF-8, or holds characters that can't be seen."}
	}
	return name, nil
}

// hidden are characters that a name would be shown wrong by: controls, and those that
// turn the direction of writing.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == 0xFFFE || r == 0xFFFF
}
