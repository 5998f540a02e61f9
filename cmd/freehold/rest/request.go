package rest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/inference/pii"
)

// Request is what a handler is given. It holds copies alone: nothing in it
// belongs to the server's reused buffers.
type Request struct {
	ID     string // x-request-id, the client's or ours
	Body   []byte
	Token  string // of Authorization: Bearer; empty when there is none
	Tenant string // for the access log: the gate sets it

	// IdempotencyKey is the client's name for this request, at most 255 visible
	// characters; empty: none.
	IdempotencyKey string
	// Async says that the client won't wait for long work (Prefer: respond-async,
	// RFC 7240).
	Async bool
	// Again says that the client's library sends this request once more after a
	// failure: the official ones count in X-Stainless-Retry-Count.
	Again bool

	target string // method and path, as they came
	params map[string]string
	query  url.Values
	media  string
	body   *body // of an upload; nil: Body has it
}

// Hash is of what is asked: method, path and body. Two requests of one hash ask for
// the same.
func (r *Request) Hash() []byte {
	h := sha256.New()
	h.Write([]byte(r.target))
	h.Write([]byte{0})
	h.Write(r.Body)
	return h.Sum(nil)
}

// Param returns a path parameter, unescaped.
func (r *Request) Param(name string) string { return r.params[name] }

// Query returns a query parameter's first value, or "".
func (r *Request) Query(name string) string { return r.query.Get(name) }

// QueryMap returns the query parameters name[key], the first value of each, by key;
// nil when there are none.
func (r *Request) QueryMap(name string) map[string]string {
	var m map[string]string
	for param, values := range r.query {
		key, found := strings.CutPrefix(param, name+"[")
		key, closed := strings.CutSuffix(key, "]")
		if found && closed {
			if m == nil {
				m = map[string]string{}
			}
			m[key] = values[0]
		}
	}
	return m
}

func newRequest(c *fiber.Ctx, id string) (*Request, error) {
	r := &Request{ID: id, Token: bearer(c.Get(fiber.HeaderAuthorization)), media: c.Get(fiber.HeaderContentType)}
	if enc := c.Get(fiber.HeaderContentEncoding); enc != "" && enc != "identity" {
		return nil, errMedia // a small body that unpacks to a huge one isn't read
	}
	r.IdempotencyKey = strings.Clone(c.Get("Idempotency-Key"))
	if hidden := func(c rune) bool { return c <= ' ' || c > '~' }; len(r.IdempotencyKey) > 255 || strings.ContainsFunc(r.IdempotencyKey, hidden) {
		return nil, Bad("Idempotency-Key", "Idempotency-Key must be at most 255 visible ASCII characters.")
	}
	r.Async = prefersAsync(c.Get("Prefer"))
	tries, err := strconv.Atoi(c.Get("X-Stainless-Retry-Count"))
	r.Again = err == nil && tries > 0
	if b, ok := c.Context().UserValue(bodyKey{}).(*body); ok {
		r.body = b
	} else if received := c.Request().Body(); len(received) > 0 {
		r.Body = received // receive's, made for this request
	}
	r.target = c.Method() + " " + strings.Clone(c.Path())
	if q := c.Context().URI().QueryString(); len(q) > 0 {
		var err error
		if r.query, err = url.ParseQuery(string(q)); err != nil {
			return nil, Bad("", "The query string is malformed.")
		}
		for name, values := range r.query {
			if slices.ContainsFunc(values, unstorable) {
				return nil, Bad(plain(name), "The query string holds a NUL or is not UTF-8.")
			}
		}
	}
	names := c.Route().Params
	if len(names) > 0 {
		r.params = make(map[string]string, len(names))
	}
	for _, name := range names {
		v, err := url.PathUnescape(c.Params(name))
		if err != nil || unstorable(v) {
			return nil, Bad(paramName(name), "The path is malformed.")
		}
		r.params[paramName(name)] = strings.Clone(v)
	}
	return r, nil
}

func prefersAsync(header string) bool {
	for preference := range strings.SplitSeq(header, ",") {
		name, _, _ := strings.Cut(preference, ";")
		if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
			return true
		}
	}
	return false
}

// unstorable reports whether s is no text for a database: nothing there bears
// such a name.
func unstorable(s string) bool { return !utf8.ValidString(s) || strings.ContainsRune(s, 0) }

// plain returns a name that an answer may repeat, or "".
func plain(name string) string {
	if unstorable(name) {
		return ""
	}
	return name
}

// bearer returns the token of an Authorization header.
func bearer(header string) string {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// personal finds what must not name a request: its id is in the log, in traces and
// in the tenant's rows.
var personal = pii.New(pii.Options{})

// requestID takes an inbound id over when it is sane (up to 128 visible ASCII
// characters, no personal data, no key), else makes one.
func requestID(inbound string) string {
	visible := func(r rune) bool { return r > ' ' && r < 0x7f }
	if n := len(inbound); n > 0 && n <= 128 && !strings.ContainsFunc(inbound, func(r rune) bool { return !visible(r) }) &&
		len(personal.Find(inbound)) == 0 {
		return strings.Clone(inbound)
	}
	return uuid.Must(uuid.NewV7()).String()
}

// wantJSON refuses a body that says it is something else.
func (r *Request) wantJSON() error {
	if r.media == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(r.media)
	if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
		return errMedia
	}
	return nil
}

// decode reads a JSON object: no member that the type doesn't know, no missing
// one that it needs, nothing behind the object. Every refusal is a *Error.
func decode[T any](body []byte) (T, error) {
	var in T
	if !utf8.Valid(body) { // a decoder would put other characters in its place
		return in, Bad("", "The body is not valid UTF-8.")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return in, malformed(err)
	}
	fields := fieldsOf(reflect.TypeFor[T]())
	for name := range members {
		if !slices.ContainsFunc(fields, func(f field) bool { return f.name == name }) {
			return in, Bad(name, fmt.Sprintf("Unknown parameter: %q.", name))
		}
	}
	for _, f := range fields {
		if _, given := members[f.name]; f.required && !given {
			return in, Bad(f.name, fmt.Sprintf("Missing required parameter: %q.", f.name))
		}
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return in, misplaced(fields, members, err)
	}
	return in, nil
}

// misplaced names the member at fault also where its type reads itself, as a
// time does: such an error doesn't know its place.
func misplaced(fields []field, members map[string]json.RawMessage, err error) error {
	if _, known := errors.AsType[*json.UnmarshalTypeError](err); !known {
		for _, f := range fields {
			if raw, given := members[f.name]; given && json.Unmarshal(raw, reflect.New(f.typ).Interface()) != nil {
				return Bad(f.name, fmt.Sprintf("Wrong value for %q.", f.name))
			}
		}
	}
	return malformed(err)
}

func malformed(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return Bad(wrong.Field, fmt.Sprintf("Wrong type for %q: a JSON %s.", wrong.Field, wrong.Value))
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return Bad("", fmt.Sprintf("The body is not valid JSON (at byte %d).", syntax.Offset))
	}
	if errors.Is(err, catalog.ErrInvalid) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Bad("", "The body is not valid.")
	}
	return Bad("", "The body must be a JSON object.")
}

// Page reads limit and after. limit is def when not given, and at most top.
func (r *Request) Page(def, top int) (limit int, after string, err error) {
	limit = def
	if s := r.Query("limit"); s != "" {
		limit, err = strconv.Atoi(s)
		if err != nil || limit < 1 || limit > top {
			return 0, "", Bad("limit", fmt.Sprintf("limit must be a number from 1 to %d.", top))
		}
	}
	return limit, r.Query("after"), nil
}

// List is how a list is answered. FirstID and LastID are for clients that page by
// them; both are empty for an empty page.
type List[T any] struct {
	Object  string  `json:"object"` // list
	Data    []T     `json:"data"`
	FirstID *string `json:"first_id,omitempty"`
	LastID  *string `json:"last_id,omitempty"`
	HasMore bool    `json:"has_more"`
}

// Page makes a page of what was read: one more than limit tells that there are more.
func Page[T any](data []T, limit int, id func(T) string) List[T] {
	return NewList(data[:min(limit, len(data))], len(data) > limit, id)
}

// NewList makes a page of data; id, when not nil, names an item for `after`.
func NewList[T any](data []T, more bool, id func(T) string) List[T] {
	l := List[T]{Object: "list", Data: data, HasMore: more}
	if l.Data == nil {
		l.Data = []T{}
	}
	if n := len(data); n > 0 && id != nil {
		first, last := id(data[0]), id(data[n-1])
		l.FirstID, l.LastID = &first, &last
	}
	return l
}
