package blob

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrKey is returned for keys that are empty, absolute, end in a slash, hold "..",
// ".", "//", a backslash, a NUL or another control character, aren't valid UTF-8,
// or are longer than 900 bytes.
var ErrKey = errors.New("bad object key")

// maxKey leaves room for the longest prefix within S3's 1,024 bytes.
const maxKey = 900

// join puts key under prefix, which ends in a slash. What it returns begins with
// prefix and has no segment that a store, a proxy or a file system could resolve
// upwards.
func join(prefix, key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", fmt.Errorf("%w: %s", ErrKey, err.Error())
	}
	return prefix + key, nil
}

// joinList is join for the start of a listing, which may be empty or end in a slash.
func joinList(prefix, start string) (string, error) {
	if start == "" {
		return prefix, nil
	}
	if _, err := join(prefix, strings.TrimSuffix(start, "/")); err != nil {
		return "", err
	}
	return prefix + start, nil
}

func checkKey(key string) error {
	switch {
	case key == "":
		return errors.New("empty")
	case len(key) > maxKey:
		return fmt.Errorf("longer than %d bytes", maxKey)
	case !utf8.ValidString(key):
		return errors.New("not UTF-8")
	}
	for _, r := range key {
		// U+FFFE and U+FFFF are no characters in XML 1.0: a listing that holds one can't be read.
		if r == '\\' || unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF {
			return fmt.Errorf("holds %U", r)
		}
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch segment {
		case "":
			return errors.New("begins or ends in a slash, or holds two in a row")
		case ".", "..":
			return fmt.Errorf("holds the segment %q", segment)
		}
	}
	return nil
}
