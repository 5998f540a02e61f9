package openai

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"freehold/inference/engine"
)

// broken is the error of a call that ended without an answer, or within one.
func broken(ctx context.Context, err error, message string) *engine.Error {
	// The URL inside a *url.Error tells nothing that the engine's name doesn't.
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var n net.Error
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSlow), errors.Is(cause, errLong):
		return &engine.Error{Kind: engine.Timeout, Message: "the engine did not answer in time", Err: cause}
	case errors.Is(cause, context.DeadlineExceeded):
		return &engine.Error{Kind: engine.Timeout, Message: "the request's time ran out", Err: cause}
	case ctx.Err() != nil:
		return &engine.Error{Kind: engine.Failed, Message: "the request was given up", Err: cause}
	case errors.As(err, &n) && n.Timeout():
		return &engine.Error{Kind: engine.Timeout, Message: "the engine did not answer in time", Err: quiet(err)}
	default:
		return &engine.Error{Kind: engine.Failed, Message: message, Err: quiet(err)}
	}
}

// errNotHTTP stands for errors that may quote what came over the connection, and
// with it the key or the prompt that an upstream sends back.
var errNotHTTP = errors.New("what the upstream sent is not HTTP, or broke off")

// quiet returns the part of a transport's error that says how the connection fared,
// in words that are not the upstream's.
func quiet(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return cert
	}
	for _, known := range []error{io.ErrUnexpectedEOF, io.EOF, net.ErrClosed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errNotHTTP
}

// malformed is the error of an answer that isn't one. It holds nothing of it.
func malformed(message string) *engine.Error {
	return &engine.Error{Kind: engine.Failed, Message: message}
}

// refused reads and closes an answer of another status than 2xx. Only what the
// client can mend reaches the client in the upstream's own words.
func (c *client) refused(ctx context.Context, resp *http.Response) (*engine.Error, reason) {
	const limit = 64 << 10
	b, err := read(ctx, resp.Body, limit)
	if err != nil {
		b = nil // the status says enough
	}
	why := c.explain(b)
	e := &engine.Error{Kind: engine.Failed, UpstreamStatus: resp.StatusCode, Err: why.forLog()}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		c.blame(e, why)
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		e.Kind, e.Message = engine.Timeout, "the engine did not answer in time"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Message = "the engine did not accept this platform's credentials"
	case http.StatusNotFound:
		e.Message = "the engine does not know the model"
	case http.StatusTooManyRequests:
		e.Message = "the engine is over its rate limit"
	default:
		e.Message = "the engine failed"
	}
	return e, why
}

// blame makes e an error that the client can mend.
func (c *client) blame(e *engine.Error, why reason) {
	e.Kind, e.Param, e.Message = engine.BadRequest, why.Param, "the engine refused the request"
	if text := c.quote(why.Message); text != "" {
		e.Message += ": " + text
	}
}

// quote makes an upstream's message fit to be passed on.
func (c *client) quote(text string) string {
	const most = 1000
	text = strings.ToValidUTF8(text, "\uFFFD")
	if c.cfg.Key != "" {
		text = strings.ReplaceAll(text, c.cfg.Key, "[key]")
	}
	if len(text) > most {
		text = text[:most]
		for len(text) > 0 && !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
		text += "…"
	}
	return text
}

// reason is what an upstream says of its refusal.
type reason struct{ Message, Param, Code, Type string }

// forLog returns the words that can't hold a prompt, nil when there are none.
func (r reason) forLog() error {
	code, kind := loggable(r.Code), loggable(r.Type)
	if code == "" && kind == "" {
		return nil
	}
	return fmt.Errorf("upstream error code %q, type %q", code, kind)
}

// term fits what upstreams call their errors, server_error or BadRequestError, and a
// status; hardly a word of a prompt, and no key.
var term = regexp.MustCompile(`^([A-Za-z]+(_[A-Za-z]+)+|[A-Za-z]+([Ee]rror|Exception)|[1-5][0-9]{2})$`)

func loggable(text string) string {
	if text == "" || term.MatchString(text) {
		return text
	}
	return "(another)"
}

// clients reports whether the client can mend it. In an answer of status 200 that is
// told by a code that is a status, or by a type, which is also that of refusals
// that are ours to mend.
func (r reason) clients() bool {
	switch r.Code {
	case "400", "413", "422":
		return true
	case "invalid_api_key", "model_not_found", "insufficient_quota":
		return false
	}
	return r.Type == "invalid_request_error" || r.Type == "BadRequestError"
}

// word fits parameter names and error codes, and hardly anybody's secret.
var word = regexp.MustCompile(`^[A-Za-z0-9_.\[\]-]{1,64}$`)

// explain reads an error body. Words with this engine's key in them are left out.
func (c *client) explain(body []byte) reason {
	r := explain(body)
	if c.cfg.Key != "" {
		for _, word := range []*string{&r.Param, &r.Code, &r.Type} {
			if strings.Contains(*word, c.cfg.Key) {
				*word = ""
			}
		}
	}
	return r
}

// explain reads an error body in the dialects {"error": {…}}, {"error": "…"},
// {"message": "…"} and {"detail": "…"}. What can't be read is left empty.
func explain(body []byte) reason {
	var outer map[string]json.RawMessage
	if json.Unmarshal(body, &outer) != nil {
		return reason{}
	}
	inner := outer
	var r reason
	if e, ok := outer["error"]; ok && json.Unmarshal(e, &r.Message) != nil {
		inner = nil
		if json.Unmarshal(e, &inner) != nil {
			return reason{}
		}
	}
	text := func(name string) string {
		var s string
		if json.Unmarshal(inner[name], &s) != nil {
			return ""
		}
		return s
	}
	for _, name := range []string{"message", "detail"} {
		if r.Message == "" {
			r.Message = text(name)
		}
	}
	for name, to := range map[string]*string{"param": &r.Param, "code": &r.Code, "type": &r.Type} {
		if s := text(name); word.MatchString(s) {
			*to = s
		}
	}
	var status int
	if r.Code == "" && json.Unmarshal(inner["code"], &status) == nil && status > 0 {
		r.Code = strconv.Itoa(status)
	}
	return r
}

// reported reports whether raw, a member "error", tells of an error: a null one
// doesn't.
func reported(raw json.RawMessage) bool {
	return len(raw) > 0 && string(raw) != "null"
}

// inBand is the error that came inside an answer of status 200.
func (c *client) inBand(body []byte) *engine.Error {
	why := c.explain(body)
	e := &engine.Error{Kind: engine.Failed, Message: "the engine reported an error instead of an answer", Err: why.forLog()}
	if why.clients() {
		c.blame(e, why)
	}
	return e
}
