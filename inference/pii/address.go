package pii

import (
	"net/netip"
	"strings"
)

// ipv4 finds an address in dotted decimal. Four numbers that a word nearby calls
// a version are none.
func (s *scan) ipv4() (int, int) {
	if s.kind != isDigit || s.end-s.at > 3 || s.byteAt(s.end) != '.' {
		return 0, 0
	}
	end := s.dotted(s.at)
	if end == 0 || !s.addressOpens(s.at) {
		return 0, 0
	}
	switch c := s.byteAt(end); {
	case kinds[c]&isWord != 0, c == '.' && digit(s.byteAt(end+1)):
		return 0, 0
	case c == '-' && !digit(s.byteAt(end+1)) && alnum(s.byteAt(end+1)): // 1.2.3.4-beta
		return 0, 0
	}
	text := s.text[s.at:end]
	if private(text) {
		return s.at, end
	}
	if c := s.byteAt(s.at - 1); c == '/' && alpha(s.byteAt(s.at-2)) && !strings.HasPrefix(text, "10.") { // nginx/1.2.3.4
		return 0, 0
	}
	near := s.context(s.at)
	if v := near.distance(aboutVersion); v <= 5 && v < near.distance(aboutIP) {
		return 0, 0
	}
	return s.at, end
}

// dotted is the end of four numbers up to 255 from i, with dots between them and
// without leading zeros, unless each has three digits; 0 if they aren't there.
func (s *scan) dotted(i int) int {
	start := i
	zeros, padded := false, true
	for part := range 4 {
		j := s.digits(i, 4)
		if j == i || j-i > 3 {
			return 0
		}
		n := 0
		for _, c := range []byte(s.text[i:j]) {
			n = n*10 + int(c-'0')
		}
		if n > 255 {
			return 0
		}
		zeros = zeros || j-i > 1 && s.text[i] == '0'
		padded = padded && j-i == 3
		i = j
		if part < 3 {
			if s.byteAt(i) != '.' {
				return 0
			}
			i++
		}
	}
	if zeros && !padded || i == start {
		return 0
	}
	return i
}

// private knows the networks of which nobody names a version.
func private(text string) bool {
	for _, p := range []string{"127.", "192.168.", "169.254.", "255.255."} {
		if strings.HasPrefix(text, p) {
			return true
		}
	}
	return false
}

// addressOpens is opens for addresses, which a word and a sign may precede
// (ip-10.0.0.1, 1.2.3.4-1.2.3.9), but no part of a longer dotted number.
func (s *scan) addressOpens(i int) bool {
	c := s.byteAt(i - 1)
	if c == '.' || kinds[c]&isWord != 0 {
		return c == '.' && !alnum(s.byteAt(i-2)) || s.escaped(i-1)
	}
	return true
}

const maxIPv6 = 45 // eight groups, the last two in dotted decimal

// ipv6 finds an address in any of its textual forms, with or without a zone.
func (s *scan) ipv6() (int, int) {
	start := s.at
	if s.kind == 0 { // at a colon
		if s.byteAt(start+1) != ':' || s.byteAt(start-1) == ':' || alnum(s.byteAt(start-1)) {
			return 0, 0
		}
	} else if s.byteAt(s.end) != ':' || s.kind&(isLetter|isUnder) != 0 || s.end-start > 4 || !s.addressOpens(start) ||
		s.byteAt(start-1) == ':' && (s.byteAt(start-2) == ':' || kinds[s.byteAt(start-2)]&(isDigit|isHex) != 0 && !s.labelBefore(start-1)) {
		return 0, 0
	}
	end, colons := start, 0
	for end < len(s.text) && end-start <= maxIPv6 {
		c := s.text[end]
		if c == ':' {
			colons++
		} else if kinds[c]&(isDigit|isHex) == 0 && (c != '.' || !digit(s.byteAt(end+1)) || colons < 2) {
			break
		}
		end++
	}
	s.steps += end - start
	if end-start > maxIPv6 || colons < 2 {
		return 0, 0
	}
	for end > start && s.text[end-1] == ':' && (end-start < 3 || s.text[end-2] != ':') {
		end-- // a colon of the sentence
	}
	if c := s.byteAt(end); kinds[c]&isWord != 0 || end-start < 3 {
		return 0, 0
	}
	if !isIPv6(s.text[start:end]) {
		// A port without brackets, as some logs have it.
		port := strings.LastIndexByte(s.text[start:end], ':') + start
		if s.digits(port+1, 6) != end || port+1 == end || !isIPv6(s.text[start:port]) {
			return 0, 0
		}
		end = port
	}
	text := s.text[start:end]
	// std::add and the like: letters alone need more to go by.
	if !strings.ContainsAny(text, "0123456789") && colons < 4 && s.context(start).distance(aboutIP) > 4 {
		return 0, 0
	}
	if s.byteAt(end) == '%' {
		zone := end + 1
		for zone < len(s.text) && zone-end <= 16 && (kinds[s.text[zone]] != 0 || s.text[zone] == '-') {
			zone++
		}
		if zone-end > 1 && zone-end <= 16 {
			end = zone
		}
	}
	return start, end
}

func isIPv6(text string) bool {
	a, err := netip.ParseAddr(text)
	return err == nil && a.Is6()
}

// labelBefore reports whether a word with a letter beyond f ends at i: ip:2001:….
func (s *scan) labelBefore(i int) bool {
	for j := i - 1; j >= max(0, i-8) && kinds[s.text[j]] != 0; j-- {
		if kinds[s.text[j]]&(isLetter|isUnder) != 0 {
			return true
		}
	}
	return false
}

// mac finds a hardware address: six or eight pairs with colons or dashes, or
// three groups of four with dots. Digits alone need colons.
func (s *scan) mac() (int, int) {
	width, least, most := 2, 6, 8
	if s.end-s.at == 4 {
		width, least, most = 4, 3, 3
	}
	sep := s.byteAt(s.end)
	if s.kind&(isLetter|isUnder) != 0 || s.end-s.at != width ||
		width == 4 && sep != '.' || width == 2 && sep != ':' && sep != '-' {
		return 0, 0
	}
	if c := s.byteAt(s.at - 1); kinds[c]&isWord != 0 && !s.escaped(s.at-1) || c == sep && alnum(s.byteAt(s.at-2)) && !s.labelBefore(s.at-1) {
		return 0, 0
	}
	groups, letters, i := 0, false, s.at
	for groups < most+1 {
		j := i
		for j < len(s.text) && j-i <= width && kinds[s.text[j]]&(isDigit|isHex) != 0 {
			letters = letters || alpha(s.text[j])
			j++
		}
		s.steps += j - i + 1
		if j-i != width {
			return 0, 0
		}
		groups++
		i = j
		if s.byteAt(j) != sep || !alnum(s.byteAt(j+1)) {
			break
		}
		i++
	}
	if groups != least && groups != most || kinds[s.byteAt(i)]&isWord != 0 || !letters && sep != ':' {
		return 0, 0
	}
	return s.at, i
}
