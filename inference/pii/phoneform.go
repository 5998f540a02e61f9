package pii

// vetoed knows the forms of dates, years, ISBNs and amounts.
func (s *scan) vetoed(d *dialed, end int) bool {
	g := func(i int) string { return s.text[d.groups[i].start:d.groups[i].end] }
	if d.plus || d.paren >= 0 || d.ext {
		return false
	}
	if d.n >= 3 && d.seps[1] == d.seps[2] && date(g(0), g(1), g(2)) {
		return true
	}
	if d.n >= 4 && d.seps[1] == d.seps[2] && d.seps[1] != ' ' && d.seps[3] == ' ' && len(g(0)) == 2 && len(g(1)) == 2 && len(g(2)) == 2 {
		return true // 05.12.23 1030
	}
	switch d.n {
	case 1:
		return s.byteAt(end) == '.' && digit(s.byteAt(end+1))
	case 2:
		return d.shape() == 44 && year(g(0)) && year(g(1)) || d.seps[1] == '.' && len(g(0)) < 3
	}
	var num [2 * maxPhone]byte
	n := d.digits(s, num[:])
	if n == 13 && (string(num[:3]) == "978" || string(num[:3]) == "979") && d.n >= 3 {
		return true
	}
	if n == 10 && d.n == 4 && d.groups[3].len() == 1 && d.seps[1] == '-' {
		return true // ISBN-10
	}
	return false
}

func year(text string) bool {
	return len(text) == 4 && (text[:2] == "19" || text[:2] == "20")
}

// date reports whether three groups can be a day, a month and a year.
func date(a, b, c string) bool {
	if year(a) {
		return len(b) <= 2 && len(c) <= 2 && b <= "39" && c <= "39"
	}
	return len(a) <= 2 && len(b) <= 2 && a <= "39" && b <= "39" && year(c)
}

// formed reports whether the form alone says that it is a phone number.
func (s *scan) formed(d *dialed, start int) bool {
	var buf [2 * maxPhone]byte
	num := buf[:d.digits(s, buf[:])]
	if d.plus {
		return dialable(d.withoutTrunk(s, num)) || len(num) >= 10 && len(num) <= maxPhone
	}
	near := s.context(start)
	unlabelled := near.distance(aboutPhone) > near.distance(aboutOther) // or by something else
	if d.paren < 0 && !d.ext && (unlabelled && (near.names(aboutGoods) || near.names(aboutOther)) || s.byteAt(start-1) == '-' && alpha(s.byteAt(start-2)) && near.distance(aboutPhone) == far) {
		return false
	}
	if len(num) > 9 && num[0] == '0' && num[1] == '0' && d.n > 2 && dialable(num[2:]) {
		return true
	}
	if d.northAmerican(num) {
		return true
	}
	if d.n == 1 || len(num) < 8 || unlabelled && (near.distance(aboutGoods) <= 5 || near.distance(aboutOther) <= 2) {
		return false
	}
	switch d.shape() {
	case 324, 54: // like social security numbers and ZIP+4
		return false
	}
	first := d.groups[0]
	if first.len() < 2 || d.paren == 0 && year(s.text[first.start:first.end]) {
		return false
	}
	if num[0] == '0' || d.paren == 0 {
		return d.trunked(num) || nationalNumber(num, d.paren == 0)
	}
	return false
}

// withoutTrunk leaves the (0) of +44 (0)20 … out.
func (d *dialed) withoutTrunk(s *scan, num []byte) []byte {
	if d.paren < 1 || d.groups[d.paren].len() != 1 || s.text[d.groups[d.paren].start] != '0' {
		return num
	}
	at := 0
	for _, g := range d.groups[:d.paren] {
		at += g.len()
	}
	return append(num[:at:at], num[at+1:]...)
}

// trunked knows the look of national numbers of any country: a trunk prefix and an
// area code, or an area code in parentheses, and two to five groups.
func (d *dialed) trunked(num []byte) bool {
	first := d.groups[0].len()
	if first < 2 || first > 5 || d.n > 5 || len(num) > 11 || num[1] == '0' || d.paren > 0 {
		return false
	}
	for _, g := range d.groups[:d.n] {
		if g.len() < 2 {
			return false
		}
	}
	return len(num) >= 9 || d.paren == 0 && !year(string(num[:4]))
}

// northAmerican knows the ways to write ten digits in the North American plan.
func (d *dialed) northAmerican(num []byte) bool {
	shape, first := d.shape(), 0
	switch {
	case len(num) == 13 && shape == 3334 && string(num[:3]) == "001", shape == 1334 && num[0] == '1':
		num, first = num[len(num)-10:], 1
	case shape == 334:
	case shape == 37 && d.paren == 0:
	default:
		return false
	}
	strict := num[0] >= '2' && num[3] >= '2'
	switch {
	case first == 1, d.paren == first, d.ext:
		return true
	case d.seps[first+2] == '-', d.seps[first+2] == '.' && d.uniform('.'):
		return num[0] >= '2'
	case d.uniform(' '):
		return strict && nationalNumber(num, true)
	}
	return false
}

// meant reports whether words nearby say that a number is a phone's.
func (s *scan) meant(d *dialed, start, end int) bool {
	near := s.context(start)
	other := near.distance(aboutOther)
	by := near.distance(aboutPhone)
	if by == far && s.follows(end, aboutPhone) {
		by = 2
	}
	var buf [2 * maxPhone]byte
	num := buf[:d.digits(s, buf[:])]
	if by == far && len(num) >= 9 && (d.n > 1 || nationalNumber(num, true)) {
		if n := near.distance(aboutNumber); n <= 3 && other == far {
			by = n
		}
	}
	if by > 6 || other < by && (other <= 2 || near.names(aboutOther)) {
		return false
	}
	if len(num) > maxPhone {
		return num[0] == '0' && num[1] == '0' && len(num) <= maxPhone+2
	}
	for i, g := range d.groups[:d.n] {
		if i > 0 && g.len() == 1 && i < d.n-1 && i != d.paren {
			return false // 1.2.3.4.5.6.7
		}
	}
	return true
}
