package pii

// nesting follows a JSON text as it arrives, so far as to know inside how many
// strings a place is: one in {"a":"…"}, two in {"a":"{\"b\":\"…\"}"}. Whether a
// string holds a document shows in its first characters alone, since the rest
// hasn't come yet.
type nesting struct{ levels [maxNesting + 1]level }

// level is the state inside one document.
type level struct {
	inString bool
	escape   uint8  // 0: none; 1: after a backslash; 2 to 5: digits of \u to come, plus one
	code     uint16 // of \u so far
	holds    holds  // what the string has in it
}

type holds uint8

const (
	unknown holds = iota // white space so far
	object               // { so far, and white space
	array                // [ so far, and white space
	document
	plain
)

func (n *nesting) feed(text string) {
	for i := range len(text) {
		n.byte(0, text[i])
	}
}

// depth is in how many strings the next byte would be.
func (n *nesting) depth() int {
	depth := 0
	for i := range n.levels {
		if !n.levels[i].inString {
			break
		}
		depth++
		if n.levels[i].holds != document {
			break
		}
	}
	return depth
}

// byte takes the next byte of the document at a level.
func (n *nesting) byte(at int, c byte) {
	l := &n.levels[at]
	if !l.inString {
		if c == '"' {
			*l = level{inString: true}
			if at+1 < len(n.levels) {
				n.levels[at+1] = level{}
			}
		}
		return
	}
	switch l.escape {
	case 0:
		switch c {
		case '"':
			l.inString = false
		case '\\':
			l.escape = 1
		default:
			n.inner(at, c)
		}
	case 1:
		l.escape = 0
		switch c {
		case 'u':
			l.escape, l.code = 5, 0
		case 'n', 'r', 't', 'b', 'f':
			n.inner(at, ' ')
		default:
			n.inner(at, c)
		}
	default:
		l.code = l.code<<4 | uint16(hexValue(c))
		if l.escape--; l.escape == 1 {
			l.escape = 0
			if l.code < 0x80 {
				n.inner(at, byte(l.code))
			} else {
				n.inner(at, 0x80)
			}
		}
	}
}

// inner takes the next byte of a string's value.
func (n *nesting) inner(at int, c byte) {
	l := &n.levels[at]
	space := c == ' ' || c == '\t' || c == '\n' || c == '\r'
	switch l.holds {
	case plain:
		return
	case unknown:
		switch {
		case space:
		case c == '{':
			l.holds = object
		case c == '[':
			l.holds = array
		default:
			l.holds = plain
		}
		return
	case object:
		if space {
			return
		}
		l.holds = plain
		if c == '"' || c == '}' {
			l.holds = document
		}
	case array:
		if space {
			return
		}
		l.holds = plain
		switch c {
		case '"', '{', '[', ']', '-', 't', 'f', 'n', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			l.holds = document
		}
	}
	if l.holds == document && at+1 < len(n.levels) {
		n.byte(at+1, c)
	}
}

func hexValue(c byte) byte {
	if digit(c) {
		return c - '0'
	}
	return lower(c) - 'a' + 10
}
