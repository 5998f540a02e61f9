package pii

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxLocal  = 64  // RFC 5321, 4.5.3.1.1
	maxDomain = 255 // RFC 5321, 4.5.3.1.2
)

// email finds a mail address around an @. The domain must have a dot and a last
// label of letters: user@host is as often a shell prompt, a handle or a package.
// Of the local part's signs those are taken that addresses have in practice; a
// quoted local part is taken too.
func (s *scan) email() (int, int) {
	start, end := s.local(s.at), s.domain(s.at+1)
	if start == s.at || end == s.at+1 {
		return 0, 0
	}
	for s.byteAt(end) == '_' && s.text[start] == '_' && start < s.at-1 {
		start++ // _emphasis_
	}
	local, domain := s.text[start:s.at], s.text[s.at+1:end]
	if local == "git" || scaledImage(domain) {
		return 0, 0
	}
	return start, end
}

// local is the beginning of the local part that ends at end, or end.
func (s *scan) local(end int) int {
	if s.byteAt(end-1) == '"' {
		for i := end - 2; i >= max(0, end-maxLocal); i-- {
			s.steps++
			switch s.text[i] {
			case '"':
				if i < end-2 && s.opens(i) {
					return i
				}
				return end
			case '\n', '\r':
				return end
			}
		}
		return end
	}
	i, spaced := end, false // spaced: has letters of scripts with spaces between words
	for i > 0 && end-i <= maxLocal {
		s.steps++
		c := s.text[i-1]
		if kinds[c] != 0 || strings.IndexByte(".+-%'!#$*^~", c) >= 0 {
			spaced = spaced || alnum(c)
			i--
			continue
		}
		if c < utf8.RuneSelf {
			break
		}
		r, width := utf8.DecodeLastRuneInString(s.text[:i])
		// Scripts without spaces run into an address that they precede.
		if !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) || spaced && unspaced(r) {
			break
		}
		spaced = spaced || !unspaced(r)
		i -= width
	}
	if end-i > maxLocal {
		return end
	}
	if s.escaped(i) && s.byteAt(i-1) == '\\' {
		i++
	} else if s.byteAt(i-1) == '\\' && s.byteAt(i) == 'u' && end-i > 5 {
		i += 5
	}
	for i < end && s.text[i] < utf8.RuneSelf && kinds[s.text[i]] == 0 {
		i++
	}
	if s.byteAt(end-1) == '.' {
		return end
	}
	return i
}

// unspaced reports whether the letter is of a script that puts no spaces between
// words.
func unspaced(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai)
}

// domain is the end of the domain name at start, or start.
func (s *scan) domain(start int) int {
	var (
		good   = start // the end of the longest name so far
		labels = 0
		limit  = min(len(s.text), start+maxDomain)
	)
	for i := start; i < limit; {
		label, letters, spaced, stop := i, true, false, false
		for i < limit {
			s.steps++
			c := s.text[i]
			if alnum(c) {
				letters, spaced = letters && alpha(c), true
				i++
			} else if c == '-' && i > label {
				letters = false
				if labels > 0 && i-label >= 2 && lettersOnly(s.text[label:i]) {
					good = i // example.com-owned
				}
				i++
			} else if c >= utf8.RuneSelf {
				r, width := utf8.DecodeRuneInString(s.text[i:])
				if !unicode.IsLetter(r) && !unicode.IsMark(r) || spaced && unspaced(r) {
					stop = true
					break
				}
				spaced = spaced || !unspaced(r)
				i += width
			} else {
				break
			}
		}
		if i == label {
			break
		}
		text := s.text[label:i]
		capital := len(text) > 1 && text[0]-'A' < 26 && text[1]-'a' < 26
		if labels > 0 && good > start && capital && s.text[label-2]-'a' < 26 {
			break // example.com.Next sentence
		}
		if labels > 0 && (letters && utf8.RuneCountInString(text) >= 2 || strings.HasPrefix(text, "xn--")) && s.byteAt(i-1) != '-' {
			good = i
		}
		labels++
		if stop || s.byteAt(i) != '.' {
			break
		}
		i++
	}
	return good
}

func lettersOnly(text string) bool {
	for i := range len(text) {
		if !alpha(text[i]) && text[i] < utf8.RuneSelf {
			return false
		}
	}
	return true
}

// scaledImage knows the domains that are file names: logo@2x.png.
func scaledImage(domain string) bool {
	return len(domain) > 3 && digit(domain[0]) && domain[1] == 'x' && domain[2] == '.'
}
