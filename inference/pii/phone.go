package pii

import "strings"

const (
	minPhone  = 7
	maxPhone  = 15 // ITU-T E.164
	maxGroups = 8
)

// dialed is a run of digits in groups, as somebody may have written a phone number.
type dialed struct {
	plus   bool
	paren  int // the first group in parentheses, or -1
	closed int // the number of groups up to the closing parenthesis
	groups [maxGroups]span
	seps   [maxGroups]byte // before each group: ' ', '-', '.', '/', '(' for "(" alone, or 0
	n      int
	ext    bool
}

// phone finds a phone number: E.164 of any country, the national forms of the
// regions in numbering.go, and, where words nearby say that it is one, any number
// that could be one. Extensions belong to it.
func (s *scan) phone() (int, int) {
	start := s.at
	if s.kind != 0 && s.kind != isDigit || !s.phoneOpens(start) {
		return 0, 0
	}
	if s.kind != 0 && s.end-start < minPhone {
		// A short number with no digits behind it, as most are.
		switch c := s.byteAt(s.end + 1); {
		case s.byteAt(s.end) == '(' || digit(c):
		case c != '(' && c != ' ' && c != '-' && c != '/' && c < 0x80:
			return 0, 0
		}
	}
	var d dialed
	s.dial(start, &d)
	if d.digits(s, nil) < minPhone {
		return 0, 0
	}
	if !d.plus && d.n > 1 && d.seps[1] == ' ' && s.byteAt(start-1) == ' ' && digit(s.byteAt(start-2)) {
		return 0, 0 // the end of a row of groups
	}
	if s.text[start] == '(' && d.closed == 0 {
		return 0, 0
	}
	// The longest stretch of groups that is a number by its form; if none is, by
	// its context.
	for _, byContext := range [...]bool{false, true} {
		for n := d.n; n > 0; n-- {
			part := d
			part.n = n
			if part.closed >= n && part.paren >= 0 {
				// The parenthesis is around more than the number, or opens after it.
				if part.paren == 0 {
					break
				}
				if part.paren < n {
					continue
				}
				part.paren, part.closed = -1, 0
			}
			end := part.groups[n-1].end
			if count := part.digits(s, nil); count < minPhone || count > maxPhone+2 {
				continue
			}
			stop := s.extension(end)
			part.ext = stop > end
			if n < d.n && !s.separate(&d, n) || !s.phoneCloses(stop, n) || s.vetoed(&part, stop) {
				continue
			}
			if !byContext && s.formed(&part, start) || byContext && s.meant(&part, start, stop) {
				return start, stop
			}
		}
	}
	return 0, 0
}

func (s *scan) phoneOpens(i int) bool {
	switch c := s.byteAt(i - 1); c {
	case '+', '$', '%', '@', '(':
		return c == '('
	case ':':
		return !digit(s.byteAt(i - 2))
	case '/':
		if n := len(s.out); n > 0 && s.out[n-1].End == i-1 && s.out[n-1].Entity == Phone {
			return true // one of two numbers
		}
		return s.byteAt(i-2) != '/' && s.opens(i)
	case 0xa3: // £, and the last byte of €
		return s.byteAt(i-2) != 0xc2
	case 0xac:
		return s.byteAt(i-2) != 0x82
	}
	return s.opens(i)
}

func (s *scan) phoneCloses(j, groups int) bool {
	switch c := s.byteAt(j); c {
	case ':':
		return !digit(s.byteAt(j + 1))
	case '/':
		return groups >= 3 || !digit(s.byteAt(j+1))
	case '%', '$', '@', '*', '+':
		return false
	}
	return s.closes(j)
}

// separate reports whether a number may end before group n though digits follow:
// a space sets them apart, and the number has another separator within, so that
// it isn't the beginning of a row of groups.
func (s *scan) separate(d *dialed, n int) bool {
	if d.seps[n] == '/' {
		return n >= 3
	}
	if d.seps[n] != ' ' {
		return false
	}
	for i := 1; i < n; i++ {
		if d.seps[i] != ' ' {
			return true
		}
	}
	return n == 1 && d.groups[0].len() >= 10
}

// dial reads the groups that begin at i.
func (s *scan) dial(i int, d *dialed) {
	d.paren = -1
	open := false
	total := 0
	if s.byteAt(i) == '(' {
		open = true
		i++
	}
	if s.byteAt(i) == '+' {
		d.plus = true
		i++
		if c, w := s.separator(i); c == ' ' {
			i += w
		}
		if s.byteAt(i) == '(' && !open {
			open = true
			i++
		}
	}
	for sep := byte(0); d.n < maxGroups; {
		j := s.digits(i, 2*maxPhone)
		total += j - i
		if j == i || total > 2*maxPhone {
			return
		}
		d.groups[d.n], d.seps[d.n] = span{i, j}, sep
		if open && d.paren < 0 {
			d.paren = d.n
		}
		d.n++
		i, sep = j, 0
		if open && s.byteAt(i) == ')' {
			open = false
			d.closed = d.n
			sep = '('
			i++
		}
		c, w := s.separator(i)
		if c == 0 && s.byteAt(i) == '/' {
			c, w = '/', 1
		}
		if c != 0 {
			sep, i = c, i+w
			if c == ' ' { // "555 - 1234", ") - "
				if c2, w2 := s.separator(i); (c2 == '-' || c2 == '.') && s.byteAt(i+w2) == ' ' && c2 == '-' {
					sep, i = c2, i+w2+1
				} else if s.byteAt(i) == '/' && s.byteAt(i+1) == ' ' {
					sep, i = '/', i+2
				}
			}
		}
		if s.byteAt(i) == '(' && d.paren < 0 {
			open, i = true, i+1
			if sep == 0 {
				sep = '('
			}
		}
		if sep == 0 {
			return
		}
	}
}

// digits counts the digits, and copies them to into if it isn't nil.
func (d *dialed) digits(s *scan, into []byte) int {
	n := 0
	for _, g := range d.groups[:d.n] {
		if into != nil {
			copy(into[n:], s.text[g.start:g.end])
		}
		n += g.len()
	}
	return n
}

// shape has the lengths of the groups, a digit each: 3-3-4 is 334.
func (d *dialed) shape() int {
	shape := 0
	for _, g := range d.groups[:d.n] {
		shape = shape*10 + min(g.len(), 9)
	}
	return shape
}

// uniform reports whether one separator stands between all groups from the first.
func (d *dialed) uniform(sep byte) bool {
	for i := 1; i < d.n; i++ {
		if d.seps[i] != sep {
			return false
		}
	}
	return d.n > 1
}

// extension is the end of an extension after a number's end, or end.
func (s *scan) extension(end int) int {
	i := end
	for i < end+2 && (s.byteAt(i) == ' ' || s.byteAt(i) == ',' || s.byteAt(i) == ';') {
		i++
	}
	switch lower(s.byteAt(i)) {
	case 'e', 'x', '#', 'p', 'd':
	default:
		return end
	}
	for _, word := range [...]string{"extension", "ext", "x", "#", "poste", "durchwahl"} {
		if len(s.text)-i < len(word) || !strings.EqualFold(s.text[i:i+len(word)], word) {
			continue
		}
		j := i + len(word)
		for j < i+len(word)+3 && (s.byteAt(j) == ' ' || s.byteAt(j) == '.' || s.byteAt(j) == ':' || s.byteAt(j) == '=') {
			j++
		}
		if k := s.digits(j, 8); k > j && k-j <= 7 && kinds[s.byteAt(k)]&isWord == 0 {
			return k
		}
		return end
	}
	return end
}
