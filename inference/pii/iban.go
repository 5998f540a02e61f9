package pii

import "strings"

// maxIBAN is ISO 13616's bound on an IBAN's length; the longest in use has 33.
const maxIBAN = 34

// iban finds an international bank account number, in one piece or in groups set
// apart by single spaces or dashes, in either case: the country's length and
// structure and the checksum must hold.
func (s *scan) iban() (int, int) {
	start := s.at
	if s.end-start > 8 && strings.EqualFold(s.text[start:start+4], "iban") {
		start += 4
	}
	if s.end-start < 4 || !alpha(s.text[start]) || !alpha(s.text[start+1]) || !digit(s.text[start+2]) || !digit(s.text[start+3]) {
		return 0, 0
	}
	country := [2]byte{lower(s.text[start]) - 32, lower(s.text[start+1]) - 32}
	structure := ibanStructures[country]
	if structure == "" || start == s.at && !s.opens(start) {
		return 0, 0
	}
	want := 4
	for i := 0; i < len(structure); i += 3 {
		want += int(structure[i]-'0')*10 + int(structure[i+1]-'0')
	}
	var buf [maxIBAN]byte
	n, i := 0, start
	for ; n < want && i < len(s.text); i++ {
		s.steps++
		c := s.text[i]
		if alpha(c) {
			c = lower(c) - 32
		} else if !digit(c) {
			_, width := s.separator(i)
			if width == 0 || c == '.' || !alnum(s.byteAt(i+width)) {
				break
			}
			i += width - 1
			continue
		}
		buf[n] = c
		n++
	}
	// Check digits are what is left of 98, so that 00, 01 and 99 don't occur.
	if n < want || string(buf[2:4]) < "02" || string(buf[2:4]) > "98" || !s.closes(i) || !structured(buf[4:n], structure) || !mod97(buf[:n]) {
		return 0, 0
	}
	return start, i
}

// mod97 is ISO 7064's MOD 97-10 over the account number with its first four
// characters moved to the end.
func mod97(iban []byte) bool {
	rest := 0
	for i := range iban {
		c := iban[(i+4)%len(iban)]
		if digit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest == 1
}

// structured reports whether an account number has the country's structure: n for
// digits, a for letters, c for either, each with two digits of length before it.
func structured(account []byte, structure string) bool {
	for i := 0; i < len(structure); i += 3 {
		n := int(structure[i]-'0')*10 + int(structure[i+1]-'0')
		for _, c := range account[:n] {
			if structure[i+2] == 'n' && !digit(c) || structure[i+2] == 'a' && digit(c) {
				return false
			}
		}
		account = account[n:]
	}
	return true
}

// ibanStructures has the registry of ISO 13616: by country, what follows the
// country and the check digits.
var ibanStructures = func() map[[2]byte]string {
	all := map[[2]byte]string{}
	for _, row := range strings.Fields(`
		AD08n12c AE19n AL08n16c AO21n AT16n AZ04a20c BA16n BE12n BF02a22n BG04a06n08c BH04a14c BI23n BJ02a22n
		BR23n01a01c BY04c04n16c CF23n CG23n CH05n12c CI02a22n CM23n CR18n CV21n CY08n16c CZ20n DE18n DJ23n
		DK14n DO04c20n DZ22n EE16n EG25n ES20n FI14n FK02a12n FO14n FR10n11c02n GA23n GB04a14n GE02a16n
		GI04a15c GL14n GQ23n GR07n16c GT24c GW02c19n HN04a20n HR17n HU24n IE04a14n IL19n IQ04a15n IR22n
		IS22n IT01a10n12c JO04a04n18c KM23n KW04a22c KZ03n13c LB04n20c LC04a24c LI05n12c LT16n LU03n13c
		LV04a13c LY21n MA24n MC10n11c02n MD20c ME18n MG23n MK03n10c02n ML02a22n MN16n MR23n MT04a05n18c
		MU04a19n03a MZ21n NE02a22n NI04a20n NL04a10n NO11n OM03n16c PK04a16c PL24n PS04a21c PT21n
		QA04a21c RO04a16c RS18n RU14n15c SA02n18c SC04a20n03a SD14n SE20n SI15n SK20n SM01a10n12c SN02a22n
		SO19n ST21n SV04a20n TD23n TG02a22n TL19n TN20n TR06n16c UA06n19c VA18n VG04a16n XK16n YE04a04n18c`) {
		all[[2]byte{row[0], row[1]}] = row[2:]
	}
	return all
}()
