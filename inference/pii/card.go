package pii

const (
	minCard = 12 // Maestro
	maxCard = 19 // ISO/IEC 7812-1
)

// card finds a payment card's number: known issuer and length, Luhn, groups as
// people write them. With other groups of digits around it, one of the stretches
// that begin here counts: 4111 1111 1111 1111 123.
func (s *scan) card() (int, int) {
	if s.kind != isDigit || s.end-s.at < 4 || s.end-s.at > maxCard || !s.opens(s.at) {
		return 0, 0
	}
	var buf [6]span
	n, _ := s.groups(s.at, maxCard, buf[:])
	for ; n > 0; n-- {
		var num [maxCard]byte
		digits, usual := 0, true
		for i, g := range buf[:n] {
			// All groups but the last have four digits at least, as 4-4-4-4, 4-6-5 and 8-8 do.
			usual = usual && (g.len() >= 4 || i == n-1 && i > 0)
			digits += copy(num[digits:], s.text[g.start:g.end])
		}
		end := buf[n-1].end
		// Fewer groups than usual, with more of them around, are a longer number's.
		if n == 3 && buf[1].len() == 4 && s.digitsBeside(s.at, end) {
			continue
		}
		if !usual || digits < minCard || !s.closes(end) || !luhn(num[:digits]) {
			continue
		}
		if s.plausibleCard(num[:digits], n) {
			return s.at, end
		}
	}
	return 0, 0
}

// plausibleCard weighs a number that passes Luhn: a tenth of all numbers do.
func (s *scan) plausibleCard(num []byte, groups int) bool {
	near := s.context(s.at)
	labelled := near.distance(aboutCard) < near.distance(aboutOther)
	if labelled && num[0] != '0' {
		return true
	}
	if groups == 1 && near.names(aboutGoods) {
		return false
	}
	return issued(num)
}

// luhn is ISO/IEC 7812-1, annex B. Equal digits throughout are no number.
func luhn(num []byte) bool {
	sum, same := 0, true
	for i := range num {
		d := int(num[len(num)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
		same = same && num[i] == num[0]
	}
	return sum%10 == 0 && !same
}

// issuers has the ranges of first six digits that issuers use, with the lengths
// of their numbers.
var issuers = []struct{ from, to, least, most int }{
	{213100, 213199, 15, 15}, {180000, 180099, 15, 15}, // JCB of old
	{220000, 220499, 16, 19},                                                                               // Mir
	{222100, 272099, 16, 16},                                                                               // Mastercard
	{300000, 305999, 14, 19}, {309500, 309599, 14, 19}, {360000, 369999, 14, 19}, {380000, 399999, 14, 19}, // Diners Club
	{340000, 349999, 15, 15}, {370000, 379999, 15, 15}, // American Express
	{350000, 359999, 16, 19},                                                     // JCB
	{400000, 499999, 13, 13}, {400000, 499999, 16, 16}, {400000, 499999, 19, 19}, // Visa
	{510000, 559999, 16, 16}, // Mastercard
	{60400, 60499, 12, 19},   // Maestro
	{500000, 509999, 12, 19}, {560000, 589999, 12, 19}, {630000, 639999, 12, 19}, {670000, 679999, 12, 19},
	{600000, 629999, 16, 19}, {644000, 659999, 16, 19}, // Discover, UnionPay, RuPay
	{810000, 829999, 16, 19}, // UnionPay, RuPay
	{979200, 979299, 16, 16}, // Troy
}

func issued(num []byte) bool {
	prefix := 0
	for _, c := range num[:6] {
		prefix = prefix*10 + int(c-'0')
	}
	for _, r := range issuers {
		if r.from <= prefix && prefix <= r.to && r.least <= len(num) && len(num) <= r.most {
			return true
		}
	}
	return false
}
