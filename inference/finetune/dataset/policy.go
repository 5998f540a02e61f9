package dataset

import (
	"bytes"
	"encoding/json"
	"slices"

	"freehold/catalog"
	"freehold/inference/pii"
)

// modeBlock is the pii_mode under which personal data is refused.
const modeBlock = "block"

// Policy says what becomes of personal data in training: what becomes of it when
// the model is asked. Fixed tags take its place, since a placeholder that differs
// from example to example is nothing to be learnt.
type Policy struct {
	Detect      bool
	Mode        string // redact, restore or block
	Allow, Deny []string
}

// PolicyOf is a tenant's.
func PolicyOf(c catalog.TenantConfig) Policy {
	return Policy{Detect: c.PIIDetectionEnabled, Mode: c.PIIMode, Allow: c.PIIAllow, Deny: c.PIIDeny}
}

// Describe is the policy for a model's card, with how many values it hid, by entity.
// What the lists hold may be personal data itself: the card has their lengths.
func (p Policy) Describe(hidden map[string]int) map[string]any {
	card := map[string]any{"pii_detection": p.Detect}
	if !p.Detect {
		return card
	}
	if hidden == nil {
		hidden = map[string]int{}
	}
	card["pii_mode"], card["pii_hidden"] = p.Mode, hidden
	card["pii_allow"], card["pii_deny"] = len(p.Allow), len(p.Deny)
	return card
}

// Hide hides personal data in a text as it is hidden in a message's.
func (p Policy) Hide(text string) string {
	if h := newHider(p); h.scanner != nil {
		return h.scanner.Tag(text)
	}
	return text
}

// hider hides personal data; its zero value hides nothing.
type hider struct{ scanner *pii.Scanner }

func newHider(p Policy) hider {
	if !p.Detect {
		return hider{}
	}
	return hider{pii.New(pii.Options{Allow: p.Allow, Deny: p.Deny})}
}

// example hides all that a request's messages and tools would have hidden, in the
// same units, and returns how many values that were, by entity; nil for none.
func (h hider) example(ex *example) (found map[string]int) {
	if h.scanner == nil {
		return nil
	}
	hide := func(raw []byte) []byte {
		hidden := h.scanner.TagJSON(raw)
		if bytes.Equal(hidden, raw) {
			return raw
		}
		// Values are counted by a session, whose placeholders nobody gets to see.
		s := h.scanner.Session()
		s.RedactJSON(raw)
		if found == nil {
			found = map[string]int{}
		}
		for entity, n := range s.Count() {
			found[string(entity)] += n
		}
		return hidden
	}
	for i := range ex.messages {
		m := &ex.messages[i]
		if m.content != nil {
			before := m.content
			if m.content = h.content(m.content, hide); !bytes.Equal(before, m.content) {
				m.text = contentText(m.content)
			}
		}
		for k, x := range m.rest {
			if x.name != "weight" {
				m.rest[k].value = hide(x.value)
			}
		}
	}
	for k, x := range ex.rest {
		ex.rest[k].value = hide(x.value)
	}
	return found
}

// content hides in a content: in the text of each of its parts by itself.
func (h hider) content(raw []byte, hide func([]byte) []byte) []byte {
	if raw[0] != '[' {
		return hide(raw)
	}
	parts := elements(raw)
	out := make([]json.RawMessage, len(parts))
	for i, part := range parts {
		text, _ := child(part, "text")
		out[i] = slices.Concat([]byte(`{"text":`), hide(text), []byte(`,"type":"text"}`))
	}
	joined, _ := json.Marshal(out) //nolint:errchkjson // valid documents encode
	return joined
}

// contentText is the text of a content that was found good.
func contentText(raw []byte) string {
	if raw[0] != '[' {
		text, _ := textOf(raw)
		return text
	}
	var text []byte
	for i, part := range elements(raw) {
		if i > 0 {
			text = append(text, '\n')
		}
		value, _ := child(part, "text")
		t, _ := textOf(value)
		text = append(text, t...)
	}
	return string(text)
}
