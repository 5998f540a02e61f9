package pii

// ssn finds a US social security number: 3-2-4 digits with dashes or spaces, with
// dots or without anything where words nearby say so. It has no checksum; areas,
// groups and serials that were never given out are no match.
func (s *scan) ssn() (int, int) {
	if s.kind != isDigit || !s.opens(s.at) {
		return 0, 0
	}
	var buf [4]span
	var num [9]byte
	n, class := 1, byte(0)
	switch s.end - s.at {
	case 3:
		n, class = s.groups(s.at, len(num), buf[:])
		if n != 3 || buf[1].len() != 2 || buf[2].len() != 4 {
			return 0, 0
		}
	case 9:
		buf[0] = span{s.at, s.end}
	default:
		return 0, 0
	}
	end, digits := buf[n-1].end, 0
	for _, g := range buf[:n] {
		digits += copy(num[digits:], s.text[g.start:g.end])
	}
	if digits != len(num) || !s.closes(end) || !assignable(num) {
		return 0, 0
	}
	near := s.context(s.at)
	labelled := near.distance(aboutSSN) < near.distance(aboutOther)
	switch {
	case class == '-':
		if !labelled && near.names(aboutGoods) {
			return 0, 0
		}
	case class == ' ':
		// Between other numbers it is a row of a table.
		if !labelled && (s.digitsBeside(s.at, end) || near.distance(aboutOther) < far) {
			return 0, 0
		}
	case !labelled:
		return 0, 0
	}
	return s.at, end
}

// assignable holds the rules of the Social Security Administration, and the
// numbers that it withdrew after they had been printed in advertisements.
func assignable(num [9]byte) bool {
	area, group, serial := string(num[:3]), string(num[3:5]), string(num[5:])
	if area == "000" || area == "666" || area[0] == '9' || group == "00" || serial == "0000" {
		return false
	}
	all := string(num[:])
	if all == "078051120" || all == "219099999" {
		return false
	}
	for i := range num {
		if num[i] != num[0] {
			return true
		}
	}
	return false
}

// digitsBeside reports whether a space alone is between [start, end) and another
// number.
func (s *scan) digitsBeside(start, end int) bool {
	before, after := s.byteAt(start-1), s.byteAt(end)
	return before == ' ' && digit(s.byteAt(start-2)) || after == ' ' && digit(s.byteAt(end+1))
}
