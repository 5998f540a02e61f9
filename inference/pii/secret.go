package pii

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// keyForms are API keys that announce themselves: what they begin with, how many
// characters at least follow, and which may.
var keyForms = []struct {
	prefix string
	least  int
	extra  string // besides letters and digits
}{
	{"sk-ant-", 16, "-_"}, {"sk-proj-", 16, "-_"}, {"sk-or-", 16, "-_"}, {"sk-", 20, "-_"},
	{"AKIA", 16, ""}, {"ASIA", 16, ""}, {"AIza", 30, "-_"}, {"ya29.", 20, "-_"},
	{"ghp_", 30, ""}, {"gho_", 30, ""}, {"ghs_", 30, ""}, {"ghu_", 30, ""}, {"ghr_", 30, ""}, {"github_pat_", 22, "_"},
	{"xoxa-", 10, "-"}, {"xoxb-", 10, "-"}, {"xoxp-", 10, "-"}, {"xoxr-", 10, "-"}, {"xoxs-", 10, "-"}, {"xapp-", 10, "-"},
	{"glpat-", 20, "-_"}, {"npm_", 30, ""}, {"pypi-", 32, "-_"}, {"hf_", 30, ""}, {"dop_v1_", 32, ""}, {"SG.", 30, "-_."},
	{"sk_live_", 16, ""}, {"rk_live_", 16, ""}, {"sk_test_", 16, ""}, {"rk_test_", 16, ""}, {"whsec_", 20, ""},
	{"fh_", 20, "_-"},
}

// keyStarts has, by the first byte of a form, the second ones as a set of their
// last six bits: few other words begin like that.
var keyStarts = func() (t [256]uint64) {
	for _, f := range keyForms {
		t[f.prefix[0]] |= 1 << (f.prefix[1] & 63)
	}
	return t
}()

// maxKey bounds how far a key is followed; what is longer is redacted up to here.
const maxKey = 512

// apiKey finds a key that announces itself.
func (s *scan) apiKey() (int, int) {
	if keyStarts[s.text[s.at]]&(1<<(s.byteAt(s.at+1)&63)) == 0 {
		return 0, 0
	}
	for i := range keyForms {
		f := &keyForms[i]
		if !strings.HasPrefix(s.text[s.at:], f.prefix) {
			continue
		}
		j := s.at + len(f.prefix)
		digits := false
		for j < len(s.text) && j-s.at < maxKey && (alnum(s.text[j]) || strings.IndexByte(f.extra, s.text[j]) >= 0) {
			digits = digits || digit(s.text[j])
			j++
		}
		s.steps += j - s.at
		for strings.IndexByte("-_.", s.text[j-1]) >= 0 {
			j--
		}
		// After a dash letters alone are a hyphenated word.
		if j-s.at-len(f.prefix) >= f.least && (digits || f.prefix[len(f.prefix)-1] != '-') && (s.at == 0 || s.text[s.at-1] != '-') {
			return s.at, j
		}
	}
	return 0, 0
}

// jwt finds a JSON web token: three parts in base64url, or the five of an
// encrypted one, of which the first is a JSON object.
func (s *scan) jwt() (int, int) {
	if s.text[s.at] != 'e' || !strings.HasPrefix(s.text[s.at:], "eyJ") || s.byteAt(s.at-1) == '-' || s.byteAt(s.at-1) == '.' && alnum(s.byteAt(s.at-2)) {
		return 0, 0
	}
	i, parts, header := s.at, 0, 0
	for parts < 5 {
		j := i
		for j < len(s.text) && (kinds[s.text[j]] != 0 || s.text[j] == '-') {
			j++
		}
		s.steps += j - i + 1
		if parts == 0 {
			header = j
		}
		if j == i && parts < 2 {
			return 0, 0
		}
		parts++
		i = j
		if s.byteAt(j) != '.' || parts >= 2 && !alnum(s.byteAt(j+1)) {
			break
		}
		i++
	}
	if parts < 2 || header-s.at > 4096 {
		return 0, 0
	}
	var buf [64]byte
	decoded, err := base64.RawURLEncoding.AppendDecode(buf[:0], []byte(s.text[s.at:header]))
	if err != nil || !json.Valid(decoded) {
		return 0, 0
	}
	return s.at, i
}

const (
	pemBegin  = "-----BEGIN "
	pemEnd    = "-----END "
	pemDashes = "-----"
)

// pem finds a private key in PEM, also one whose end is missing.
func (s *scan) pem() (int, int) {
	rest := s.text[s.at:]
	if !strings.HasPrefix(rest, pemBegin) {
		return 0, 0
	}
	title := rest[len(pemBegin):min(len(rest), len(pemBegin)+64)]
	stop := strings.Index(title, pemDashes)
	if stop < 0 || !strings.HasSuffix(strings.TrimSuffix(title[:stop], " BLOCK"), "PRIVATE KEY") {
		return 0, 0
	}
	body := s.at + len(pemBegin) + stop + len(pemDashes)
	// What is looked at here ends where the next block begins, so that no other
	// block's look covers it.
	length := strings.Index(s.text[body:], pemDashes)
	if length < 0 {
		length = len(s.text) - body
	}
	s.steps += length
	if foot := s.text[body+length:]; strings.HasPrefix(foot, pemEnd) {
		if n := strings.Index(foot[len(pemEnd):min(len(foot), len(pemEnd)+64)], pemDashes); n >= 0 {
			return s.at, body + length + len(pemEnd) + n + len(pemDashes)
		}
	}
	// Cut off: as far as it looks like a key.
	end := body
	for i := body; i < body+length; i++ {
		if c := s.text[i]; alnum(c) || strings.IndexByte("+/=", c) >= 0 {
			end = i + 1
		} else if strings.IndexByte("\r\n\\", c) < 0 && (c != ' ' || strings.IndexByte("\r\n ", s.text[i-1]) < 0) {
			break // a space begins a line, or it is prose
		}
	}
	if end-body < 16 {
		return 0, 0
	}
	return s.at, end
}

// maxUserinfo bounds the user and password of a URL.
const maxUserinfo = 512

// credentials finds the user and password of a URL, scheme://user:password@host.
// A user alone is none.
func (s *scan) credentials() (int, int) {
	if !strings.HasPrefix(s.text[s.at:], "://") || !alnum(s.byteAt(s.at-1)) {
		return 0, 0
	}
	start := s.at + 3
	pass, end := 0, 0 // after the first colon; at the last @
	path := false
	for i := start; i < min(len(s.text), start+maxUserinfo); i++ {
		s.steps++
		c := s.text[i]
		if c <= ' ' || strings.IndexByte("\"'<>`", c) >= 0 || c == ',' && end > 0 {
			break
		}
		if c == ':' {
			if s.byteAt(i+1) == '/' && s.byteAt(i+2) == '/' {
				break // another URL
			}
			if pass == 0 {
				pass = i + 1
			}
		}
		if c == '@' {
			end = i
			if path {
				break
			}
		}
		if c == '/' || c == '?' || c == '#' {
			// A password may hold one of them, against the rules; a port is a number.
			if end > 0 || pass == 0 || s.digits(pass, 6) == i {
				break
			}
			path = true
		}
	}
	if pass == 0 || end <= pass {
		return 0, 0
	}
	return start, end
}
