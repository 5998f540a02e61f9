package privacy_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// keyLen is how many bytes of a needle are looked up: no needle is shorter.
const keyLen = 8

// needles are values to be searched for, in each form in which they may stand
// somewhere. Values are told apart by their first letters.
type needles struct {
	by    map[[keyLen]byte][]needle
	count int
}

type needle struct{ text, form, value string }

// find returns what of the needles stands in a text, each once.
func (n *needles) find(in []byte) (found []needle) {
	var key [keyLen]byte
	for i := 0; i+keyLen <= len(in); i++ {
		copy(key[:], in[i:])
		for _, one := range n.by[key] {
			if end := i + len(one.text); end <= len(in) && string(in[i:end]) == one.text && !slices.Contains(found, one) {
				found = append(found, one)
			}
		}
	}
	return found
}

// add has a value searched for.
func (n *needles) add(value string) {
	if n.by == nil {
		n.by = map[[keyLen]byte][]needle{}
	}
	n.count++
	for form, text := range forms(value) {
		if len(text) < keyLen {
			continue
		}
		one := needle{text, form, value}
		key := [keyLen]byte([]byte(text))
		if !slices.ContainsFunc(n.by[key], func(known needle) bool { return known.text == text }) {
			n.by[key] = append(n.by[key], one)
		}
	}
}

// forms are the ways in which a value may be written.
func forms(value string) map[string]string {
	escaped := quoted(value)
	f := map[string]string{
		"plain": value, "json": escaped, "json twice": quoted(escaped),
		"url": url.QueryEscape(value), "path": url.PathEscape(value),
		"hex": hex.EncodeToString([]byte(value)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(value))),
	}
	for at := range 3 {
		f[fmt.Sprint("base64 at ", at)] = inBase64(base64.RawStdEncoding, value, at)
		f[fmt.Sprint("base64url at ", at)] = inBase64(base64.RawURLEncoding, value, at)
	}
	return f
}

// quoted is a value as it stands inside a JSON string.
func quoted(value string) string {
	b, _ := json.Marshal(value) // a string always encodes
	return string(b[1 : len(b)-1])
}

// inBase64 is what base64 of any text with the value in it has for it, when the
// value begins so many bytes after a multiple of three.
func inBase64(enc *base64.Encoding, value string, at int) string {
	text := enc.EncodeToString([]byte("\x00\x00"[:at] + value))
	// The first digits depend on what is before the value, the last on what follows.
	return text[(8*at+5)/6 : (at+len(value))*8/6]
}

// place is where something may be found.
type place struct {
	name string
	text []byte
}

// absent reports each needle that stands in one of the places, and places that are
// empty, in which nothing could.
func (n *needles) absent(t testing.TB, places []place) {
	t.Helper()
	for _, p := range places {
		if len(p.text) == 0 {
			t.Errorf("%s is empty", p.name)
		}
		found := n.find(p.text)
		for i, one := range found {
			if i == 10 {
				t.Errorf("%s: and %d more", p.name, len(found)-i)
				break
			}
			at := strings.Index(string(p.text), one.text)
			t.Errorf("%s has %q (%s): …%q…", p.name, one.value, one.form,
				p.text[max(0, at-80):min(len(p.text), at+len(one.text)+40)])
		}
	}
}

func TestNeedles(t *testing.T) {
	t.Parallel()
	const value = `Ann "Quinn" <ann@example.com>`
	var n needles
	n.add(value)
	doc, _ := json.Marshal(map[string]string{"a": value})
	twice, _ := json.Marshal(map[string]string{"a": string(doc)})
	for name, text := range map[string]string{
		"plain": "x" + value, "json": string(doc), "json twice": string(twice), "url": "?q=" + url.QueryEscape(value),
		"hex": `\x00` + hex.EncodeToString([]byte(value)), "base64": base64.StdEncoding.EncodeToString([]byte(value)),
		"base64 of more": base64.StdEncoding.EncodeToString([]byte("more " + value + " and more")),
		"base64 of one":  base64.URLEncoding.EncodeToString([]byte("1" + value + "!")),
	} {
		if len(n.find([]byte(text))) == 0 {
			t.Errorf("%s: not found in %q", name, text)
		}
	}
	if found := n.find([]byte("Ann Quinn, ann@example.org, " + strings.Repeat("QW5u", 20))); found != nil {
		t.Errorf("found %v", found)
	}
}
