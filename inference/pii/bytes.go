package pii

// What a byte can be in a word.
const (
	isDigit  = 1 << iota
	isHex    // a letter from a to f
	isLetter // any other letter
	isUnder  // _

	isAlnum = isDigit | isHex | isLetter
	isAlpha = isHex | isLetter
	isWord  = isAlnum | isUnder
)

// kinds has what each byte is in a word; 0 for the rest.
var kinds = func() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = isDigit
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = isLetter, isLetter
		if c <= 'f' {
			t[c], t[c-'a'+'A'] = isHex, isHex
		}
	}
	t['_'] = isUnder
	return t
}()

// symbols has the candidate class that a byte outside words opens; 0 for none.
var symbols = [256]uint16{'@': at, ':': colon, '+': plus, '(': plus, '-': dash}

func digit(c byte) bool { return c-'0' < 10 }
func alpha(c byte) bool { return kinds[c]&isAlpha != 0 }
func alnum(c byte) bool { return kinds[c]&isAlnum != 0 }
func lower(c byte) byte {
	if c-'A' < 26 {
		return c + 'a' - 'A'
	}
	return c
}

// byteAt is the byte at i, or 0 outside the text.
func (s *scan) byteAt(i int) byte {
	if i < 0 || i >= len(s.text) {
		return 0
	}
	return s.text[i]
}

// glue is how far boundaries look at what a dash joins.
const glue = 24

// opens reports whether a value may begin at i: it isn't the rest of a longer
// word, number or dashed code. A dash after letters alone (card-4111…) is a
// boundary, one after digits (e29b-41d4…) isn't.
func (s *scan) opens(i int) bool {
	c := s.byteAt(i - 1)
	switch {
	case kinds[c]&isWord != 0:
		return s.escaped(i - 1)
	case c == '.' || c == '/':
		return !digit(s.byteAt(i - 2))
	case c == '-':
		for j := i - 2; j >= max(0, i-2-glue); j-- {
			k := kinds[s.text[j]]
			if k&isDigit != 0 {
				return false
			}
			if k == 0 {
				break
			}
		}
	}
	return true
}

// escaped reports whether the letter at i belongs to an escape sequence, \n, that
// somebody's printer has left in the text.
func (s *scan) escaped(i int) bool {
	c := s.byteAt(i)
	return (c == 'n' || c == 'r' || c == 't') && s.byteAt(i-1) == '\\'
}

// closes reports whether a value may end at j, as opens does for its beginning.
func (s *scan) closes(j int) bool {
	c := s.byteAt(j)
	switch {
	case kinds[c]&isWord != 0 || c == '@':
		return false
	case c == '.':
		return !digit(s.byteAt(j + 1))
	case c == '-':
		for i := j + 1; i < min(len(s.text), j+1+glue); i++ {
			k := kinds[s.text[i]]
			if k&isDigit != 0 {
				return false
			}
			if k == 0 {
				break
			}
		}
	}
	return true
}

// separator is the class of a single separator between groups of digits at i, and
// its length: ' ' for spaces (also the no-break ones), '-' for dashes, '.'; 0 for none.
func (s *scan) separator(i int) (class byte, n int) {
	switch s.byteAt(i) {
	case ' ', '\t':
		return ' ', 1
	case '-':
		return '-', 1
	case '.':
		return '.', 1
	case 0xc2: // U+00A0
		if s.byteAt(i+1) == 0xa0 {
			return ' ', 2
		}
	case 0xe2:
		if s.byteAt(i+1) == 0x80 {
			switch c := s.byteAt(i + 2); {
			case c >= 0x90 && c <= 0x94: // U+2010 to U+2014
				return '-', 3
			case c == 0xaf || c == 0x89: // U+202F, U+2009
				return ' ', 3
			}
		}
	}
	return 0, 0
}

// span is a stretch of the text.
type span struct{ start, end int }

func (p span) len() int { return p.end - p.start }

// digits is the end of the run of digits at i, looked for in at most limit bytes.
func (s *scan) digits(i, limit int) int {
	end := min(len(s.text), i+limit)
	j := i
	for j < end && digit(s.text[j]) {
		j++
	}
	return j
}

// groups reads up to len(into) groups of digits from i, set apart by single
// separators of one class, no more than limit digits in all.
func (s *scan) groups(i, limit int, into []span) (n int, class byte) {
	total := 0
	for n < len(into) {
		j := s.digits(i, limit+1)
		total += j - i
		if j == i || total > limit {
			break
		}
		into[n] = span{i, j}
		n++
		c, width := s.separator(j)
		if c == 0 || class != 0 && c != class || !digit(s.byteAt(j+width)) {
			break
		}
		class, i = c, j+width
	}
	return n, class
}
