package dump

import (
	"bytes"
	"regexp"
)

// firstBytes keeps the beginning of what a program says.
type firstBytes struct{ buf bytes.Buffer }

func (b *firstBytes) Write(p []byte) (int, error) {
	const most = 16 << 10
	b.buf.Write(p[:min(len(p), max(0, most-b.buf.Len()))])
	return len(p), nil
}

var (
	complaint = regexp.MustCompile(`(?m)^pg_(?:dump|restore): (?:error|fatal): (.*)$`)
	// A newer pg_restore sets what an older server doesn't know, to what is the case there.
	harmless = regexp.MustCompile(`unrecognized configuration parameter "[a-z_]+"`)
	// Sentences that name objects, and never quote rows.
	showable = regexp.MustCompile(`ERROR:  ((?:permission denied for |must be |role ".*" does not |.* does not exist$|.* already exists$|` +
		`extension ".*" |could not open extension |canceling statement due to ).*)`)
)

// serious reports whether there is a complaint that tells of a copy which isn't one.
func (b *firstBytes) serious() bool {
	found := complaint.FindAllString(b.buf.String(), -1)
	for _, line := range found {
		if !harmless.MatchString(line) {
			return true
		}
	}
	return len(found) == 0
}

// why is the first complaint that can be shown, or "".
func (b *firstBytes) why() string {
	for _, m := range complaint.FindAllStringSubmatch(b.buf.String(), -1) {
		if shown := showable.FindStringSubmatch(m[1]); shown != nil {
			return shown[1]
		}
	}
	return ""
}
