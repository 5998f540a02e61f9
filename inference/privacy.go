package inference

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"freehold/inference/engine"
	"freehold/inference/pii"
)

// Modes of a tenant's pii_mode.
const (
	modeRedact  = "redact"
	modeRestore = "restore"
	modeBlock   = "block"
)

// privacy is what becomes of personal data in one request: what hides it before
// anything of the request is sent, stored or logged, and brings it back into the
// answer.
type privacy struct {
	scanner    *pii.Scanner // nil: detection is off
	session    *pii.Session // nil: fixed tags, never brought back
	block      bool
	json       bool                       // the answer's text is to be JSON
	pseudonyms func(name string) []string // nil: a fixed tag
}

// privacy makes that of a request. Placeholders differ from request to request, so
// what must turn out the same each time gets fixed tags.
func (s *Service) privacy(c Call, placeholders bool) *privacy {
	p := &privacy{}
	if !c.Config.PIIDetectionEnabled {
		return p
	}
	p.scanner = s.scanner(c)
	if p.block = c.Config.PIIMode == modeBlock; p.block || placeholders && c.Config.PIIMode == modeRestore {
		p.session = p.scanner.Session()
	}
	if s.cfg.Pseudonyms != nil {
		p.pseudonyms = func(name string) []string { return s.cfg.Pseudonyms(c.Scope, name) }
	}
	return p
}

// scanner returns the tenant's: with its own lists, as of this epoch.
func (s *Service) scanner(c Call) *pii.Scanner {
	if len(c.Config.PIIAllow)+len(c.Config.PIIDeny) == 0 {
		return s.plain
	}
	key := c.Scope + " " + strconv.FormatInt(c.Epoch, 10)
	if known, ok := s.scanners.Get(key); ok {
		return known
	}
	made := pii.New(pii.Options{Allow: c.Config.PIIAllow, Deny: c.Config.PIIDeny})
	s.scanners.Add(key, made)
	return made
}

func (p *privacy) text(t string) string {
	switch {
	case p.session != nil:
		return p.session.Redact(t)
	case p.scanner != nil:
		return p.scanner.Tag(t)
	}
	return t
}

func (p *privacy) raw(raw json.RawMessage) json.RawMessage {
	switch {
	case raw == nil:
	case p.session != nil:
		return p.session.RedactJSON(raw)
	case p.scanner != nil:
		return p.scanner.TagJSON(raw)
	}
	return raw
}

// user is what an end user is called: their pseudonym when the name is personal
// data, so that what they left can still be found and erased.
func (p *privacy) user(name string) string {
	if p.scanner == nil || name == "" {
		return name
	}
	tagged := p.scanner.Tag(name)
	if tagged == name {
		return name
	}
	if p.pseudonyms != nil {
		if list := p.pseudonyms(name); len(list) > 0 {
			return list[0]
		}
	}
	return tagged
}

// refuse is the *BadRequest of pii_mode block, nil when there was nothing.
func (p *privacy) refuse() error {
	if !p.block || !p.session.Found() {
		return nil
	}
	var kinds []string
	for _, entity := range slices.Sorted(maps.Keys(p.session.Count())) {
		kinds = append(kinds, strings.ToLower(string(entity)))
	}
	return &BadRequest{
		Message: fmt.Sprintf("the request holds personal data (%s), which this tenant does not let through", strings.Join(kinds, ", ")),
		cause:   ErrPersonalData,
	}
}

// hide replaces personal data in all that goes to the engine, in a copy.
func (p *privacy) hide(req *engine.ChatRequest) (*engine.ChatRequest, error) {
	if p.scanner == nil {
		return req, nil
	}
	format, _ := obj(req.Params["response_format"])
	kind, _ := str(format["type"])
	p.json = kind == "json_object" || kind == "json_schema"
	out := *req
	out.Messages = make([]engine.Message, len(req.Messages))
	for i, m := range req.Messages {
		out.Messages[i] = engine.Message{Role: m.Role, Content: p.content(m.Content), Rest: p.members(m.Rest)}
	}
	out.Params = p.members(req.Params)
	for name, raw := range out.Params {
		// Of these the engine, or we, must know one caller from another.
		if name == "safety_identifier" || name == "prompt_cache_key" {
			if s, ok := str(req.Params[name]); ok {
				out.Params[name] = marshal(p.user(s))
			} else {
				out.Params[name] = raw
			}
		}
	}
	out.Stop = make([]string, len(req.Stop))
	for i, s := range req.Stop {
		out.Stop[i] = p.text(s)
	}
	out.User = p.user(req.User)
	return &out, p.refuse()
}

// members hides in a map's values, in the order of the names, so that the same
// request has the same placeholders' numbers.
func (p *privacy) members(all map[string]json.RawMessage) map[string]json.RawMessage {
	if all == nil {
		return nil
	}
	out := make(map[string]json.RawMessage, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out[name] = p.raw(all[name])
	}
	return out
}

// content hides in a message's content.
func (p *privacy) content(raw json.RawMessage) json.RawMessage {
	parts, ok := list(raw)
	if !ok {
		return p.raw(raw)
	}
	out := make([]json.RawMessage, len(parts))
	for i, part := range parts {
		out[i] = p.part(part)
	}
	return marshal(out)
}

// holders are the kinds of parts that may hold a picture, a sound or a file in
// themselves, each with the member's member that has its bytes.
var holders = map[string][2]string{
	"image_url": {"image_url", "url"}, "input_audio": {"input_audio", "data"}, "file": {"file", "file_data"},
}

// part hides in a part of a message. The bytes of a picture, a sound or a file are
// let be: there is no text to be found in them, and a change would break them. What
// stands beside them, a file's name, is not.
func (p *privacy) part(raw json.RawMessage) json.RawMessage {
	outer, _ := obj(raw)
	kind, _ := str(outer["type"])
	at, holds := holders[kind]
	if !holds {
		return p.raw(raw)
	}
	inner, _ := obj(outer[at[0]])
	data, _ := str(inner[at[1]])
	if !p.bytes(data) {
		return p.raw(raw)
	}
	whole := inner.take(at[1])
	outer[at[0]] = marshal(inner)
	outer, _ = obj(p.raw(marshal(outer)))
	if inner, _ = obj(outer[at[0]]); inner == nil {
		return p.raw(raw) // the tenant's own list has the member's name in it
	}
	inner[at[1]] = whole
	outer[at[0]] = marshal(inner)
	return marshal(outer)
}

// leastBytes is how long base64 is at least: what is shorter may be a text.
const leastBytes = 64

// bytes reports whether data is base64, or a URL that holds it.
func (p *privacy) bytes(data string) bool {
	if rest, ok := strings.CutPrefix(data, "data:"); ok {
		media, body, ok := strings.Cut(rest, ";base64,")
		if !ok || p.scanner.Tag(media) != media {
			return false
		}
		data = body
	}
	return len(data) >= leastBytes && strings.IndexFunc(data, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("+/-_=\r\n", r)
	}) < 0
}

// restore brings personal data back into a whole answer, in a copy.
func (p *privacy) restore(resp *engine.ChatResponse) *engine.ChatResponse {
	out := *resp
	if !p.restores() {
		return &out
	}
	out.Choices = slices.Clone(resp.Choices)
	for i, c := range out.Choices {
		out.Choices[i].Message = newRestorer(p).message(c.Message)
		if c.Logprobs != nil {
			out.Choices[i].Logprobs = p.session.RestoreJSON(c.Logprobs)
		}
	}
	return &out
}

// restores reports whether there is anything to bring back.
func (p *privacy) restores() bool { return p.session != nil && !p.block && p.session.Found() }

// kept is an answer as it may be stored: what the engine said, which never saw
// what was hidden; should it have made up personal data of its own, that is
// hidden too.
func (p *privacy) kept(output any) json.RawMessage {
	raw := storable(output)
	if p.scanner == nil || raw == nil {
		return raw
	}
	return p.scanner.TagJSON(raw)
}
