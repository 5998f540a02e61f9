package archive

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds a part of a path, in bytes: file systems take 255.
const maxName = 150

// safe is text as a part of a path on any system: no separators, nothing that points
// upwards, nothing that can't be seen. It may be another's too: who uses it puts
// something of the owner's before it.
func safe(text string) string {
	var b strings.Builder
	last := rune(0)
	for _, r := range text {
		switch {
		case r == '.' && last == '.':
			r = '_'
		case unicode.IsControl(r), r == utf8.RuneError, unicode.Is(unicode.Cf, r), strings.ContainsRune(`/\:*?"<>|`, r):
			r = '_'
		case unicode.IsSpace(r):
			r = ' '
		}
		if b.Len()+utf8.RuneLen(r) > maxName {
			break
		}
		b.WriteRune(r)
		last = r
	}
	// Some systems drop dots and spaces at the end, and hide what begins with a dot.
	clean := strings.TrimRight(b.String(), ". ")
	if rest := strings.TrimLeft(clean, ". "); rest != clean {
		clean = "_" + rest
	}
	if clean == "" {
		return "_"
	}
	return clean
}

// safePath is a key of the object store as a path, part by part.
func safePath(key string) string {
	parts := strings.Split(key, "/")
	for i, p := range parts {
		parts[i] = safe(p)
	}
	return strings.Join(parts, "/")
}
