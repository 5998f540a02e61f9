package lexicon

import "unicode/utf8"

// Typo tells whether two words differ by one letter that is left out, is there too
// many, is another one, or has changed places with the next one. Short words and
// those with another first letter are no typos of each other.
func Typo(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(a) < 4 || len(b) < 5 || len(b)-len(a) > 1 || a[0] != b[0] || a == b || !utf8.ValidString(a) {
		return false
	}
	at := 0
	for at < len(a) && a[at] == b[at] {
		at++
	}
	if len(a) < len(b) {
		return a[at:] == b[at+1:]
	}
	if at+1 < len(a) && a[at] == b[at+1] && a[at+1] == b[at] && a[at+2:] == b[at+2:] {
		return true
	}
	return len(a) >= 6 && a[at+1:] == b[at+1:]
}
