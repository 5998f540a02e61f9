package piitest

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"net/netip"
	"strings"

	"freehold/inference/pii"
)

const (
	lowers = "abcdefghijklmnopqrstuvwxyz"
	uppers = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	figure = "0123456789"
	hexes  = "0123456789abcdef"
)

// values are the slots that are to be found. Those in _bare forms belong in
// templates whose words say what they are.
var values = map[string]struct {
	entity pii.Entity
	make   func(generator) string
}{
	"email":      {pii.Email, generator.email},
	"card":       {pii.Card, generator.card},
	"iban":       {pii.IBAN, generator.iban},
	"ssn":        {pii.SSN, func(g generator) string { return g.ssn(g.pick("-", "-", "-", " ")) }},
	"ssn_bare":   {pii.SSN, func(g generator) string { return g.ssn(g.pick("", ".", "-", " ")) }},
	"phone":      {pii.Phone, generator.phone},
	"phone_bare": {pii.Phone, generator.phoneBare},
	"ip":         {pii.IP, generator.ip},
	"mac":        {pii.MAC, generator.mac},
	"userinfo":   {pii.URL, func(g generator) string { return g.word() + ":" + g.of(lowers+figure+uppers, 6+g.IntN(12)) }},
	"jwt":        {pii.JWT, generator.jwt},
	"key":        {pii.Key, generator.key},
	"password":   {pii.Key, func(g generator) string { return g.of(lowers+uppers, 5+g.IntN(9)) + g.of(figure, 2) }},
	"pem":        {pii.Key, generator.pem},
}

func (g generator) word() string {
	return g.pick("anna", "bruno", "carla", "dmitri", "erik", "fatima", "george", "hana", "ines", "jan", "klaus", "lena",
		"mallory", "noah", "oliver", "priya", "quentin", "rosa", "sven", "tamar", "ursula", "victor", "wanda", "xavier", "yusuf", "zoe")
}

func (g generator) surname() string {
	return g.pick("smith", "mueller", "garcia", "rossi", "dubois", "silva", "cohen", "patel", "nguyen", "kowalski", "jensen",
		"o'brien", "van-dijk", "yilmaz", "novak", "tanaka")
}

func (g generator) email() string {
	first, last := g.word(), g.surname()
	local := g.pick(first+"."+last, first, first+"_"+last, first[:1]+last, first+g.of(figure, 2), first+"."+last+g.of(figure, 4),
		first+"+"+g.pick("news", "shop", "a1")+"@", strings.ToUpper(first[:1])+first[1:]+"."+last, first+"-"+last, "jürgen."+last, "josé")
	local = strings.TrimSuffix(local, "@")
	domain := g.pick("example.com", "mail.example.org", "example.co.uk", "acme-corp.io", "gmail.com", "yahoo.fr", "web.de",
		"uni-muenchen.de", "a.b.example.museum", "outlook.com", "münchen.de", "xn--mnchen-3ya.de", "beispiel.online", "123mail.net", "t.co",
		"example.com.br", "Mail.RU", "EXAMPLE.COM")
	if g.IntN(40) == 0 {
		return g.pick("иван@пример.рф", "χρήστης@παράδειγμα.ελ")
	}
	return local + "@" + domain
}

func (g generator) card() string {
	brand := [...]struct {
		prefixes string
		length   int
	}{
		{"4", 16}, {"4", 16}, {"4", 16}, {"51 52 53 54 55 2221 2500 2720", 16}, {"51 52 53 54 55", 16}, {"34 37", 15}, {"34 37", 15},
		{"6011 65 644 649", 16}, {"300 301 305 36 38", 14}, {"3528 3589 3540", 16}, {"2131 1800", 15}, {"4", 13}, {"4", 19},
		{"5018 5020 5038 5612 5712 5893 6304 6759 6761 6763", 12}, {"5018 6304 6759", 16}, {"6759 6763", 19}, {"62", 16}, {"6221", 19}, {"2200", 16},
	}[g.IntN(19)]
	num := g.pick(strings.Fields(brand.prefixes)...)
	num += g.of(figure, brand.length-1-len(num))
	num += luhnDigit(num)
	sep := g.pick("", " ", "-")
	switch brand.length {
	case 15, 14:
		return grouped(num, sep, 4, 6)
	case 12, 13:
		return num
	}
	return grouped(num, sep, 4, 4, 4, 4)
}

// luhnDigit is the digit that makes num pass Luhn.
func luhnDigit(num string) string {
	sum := 0
	for i := range num {
		d := int(num[len(num)-1-i] - '0')
		if i%2 == 0 {
			d = d*2/10 + d*2%10
		}
		sum += d
	}
	return fmt.Sprint((10 - sum%10) % 10)
}

// accounts has the forms of account numbers: # a digit, A a letter.
var accounts = map[string]string{
	"AD": "####################", "AE": "###################", "AT": "################", "BE": "############", "BG": "AAAA##############",
	"BR": "#######################A1", "CH": "#################", "CY": "########################", "CZ": "####################",
	"DE": "##################", "DK": "##############", "EE": "################", "ES": "####################", "FI": "##############",
	"FR": "####################A##", "GB": "AAAA##############", "GI": "AAAA###############", "GR": "#######################",
	"HR": "#################", "HU": "########################", "IE": "AAAA##############", "IL": "###################",
	"IS": "######################", "IT": "A######################", "LI": "#################", "LT": "################",
	"LU": "################", "LV": "AAAA#############", "MC": "#######################", "MT": "AAAA#######################",
	"NL": "AAAA##########", "NO": "###########", "PK": "AAAA################", "PL": "########################",
	"PT": "#####################", "RO": "AAAA################", "SA": "####################", "SE": "####################",
	"SI": "###############", "SK": "####################", "SM": "A######################", "TR": "######################", "UA": "#########################",
}

// countries are those whose account numbers are made, the commoner ones more often.
var countries = strings.Fields(`AD AE AT BE BG BR CH CY CZ DE DE DE DK EE ES FI FR GB GB GI GR HR HU IE IL IS IT LI LT LU LV MC MT
	NL NO PK PL PT RO SA SE SI SK SM TR UA`)

func (g generator) iban() string {
	country := g.pick(countries...)
	form := accounts[country]
	var account strings.Builder
	for _, c := range form {
		switch c {
		case '#':
			account.WriteString(g.of(figure, 1))
		case 'A':
			account.WriteString(g.of(uppers, 1))
		default:
			account.WriteRune(c)
		}
	}
	iban := country + checkDigits(country, account.String()) + account.String()
	switch g.IntN(8) {
	case 0, 1, 2:
		return grouped(iban, " ", 4, 4, 4, 4, 4, 4, 4, 4)
	case 3:
		return strings.ToLower(iban)
	case 4:
		return grouped(iban, "-", 4, 4, 4, 4, 4, 4, 4, 4)
	}
	return iban
}

// checkDigits are those of ISO 13616, by long division.
func checkDigits(country, account string) string {
	var long strings.Builder
	for _, c := range account + country + "00" {
		if c >= 'A' {
			fmt.Fprint(&long, c-'A'+10)
		} else {
			long.WriteRune(c)
		}
	}
	n, _ := new(big.Int).SetString(long.String(), 10)
	return fmt.Sprintf("%02d", 98-new(big.Int).Mod(n, big.NewInt(97)).Int64())
}

func (g generator) ssn(sep string) string {
	area := 1 + g.IntN(899)
	if area == 666 {
		area = 667
	}
	return fmt.Sprintf("%03d%s%02d%s%04d", area, sep, 1+g.IntN(99), sep, 1+g.IntN(9999))
}

// phone is a number whose form says that it is one.
func (g generator) phone() string {
	number := g.digits(g.pick(
		"(N##) N##-####", "N##-N##-####", "N##.N##.####", "(N##)N##-####", "1-N##-N##-####", "+1-N##-N##-####", "+1 N## N## ####",
		"+1 (N##) N##-####", "+1N##N######", "001-N##-N##-####", "+1.N##.N##.####", "1 (N##) N##-####", "1.N##.N##.####",
		"+44 20 7946 0###", "+44 (0)20 7946 0###", "+447700900###", "020 7946 0###", "+49 30 901820##", "+49 (0)89 4521###", "+4915112345###",
		"+33 1 42 68 53 ##", "01 42 68 53 ##", "06 12 34 56 ##", "+972-54-123-4###", "054-123-4###", "+91 98765 43###", "+91-9876543###",
		"+55 11 98765-4###", "(11) 98765-4###", "+39 06 6982 1###", "+34 612 34 56 ##", "+41 44 668 18 ##", "+81 3-1234-5###",
		"+48 22 123 45 ##", "+31 20 123 45##", "+353 1 234 5###", "+61 2 9374 4###", "0044 20 7946 0###", "030 901820##", "0171 1234###",
		"(030) 901820##", "07700 900###", "+86 138 1234 5###", "+7 495 123-45-##", "+46 8 123 456 ##", "+45 32 12 34 ##", "+32 2 123 45 ##",
	))
	if g.IntN(6) == 0 && strings.Contains(number, "-") {
		number += g.digits(g.pick("x###", "x####", " x###", " ext. ###", " ext ####", "x#####", " ext.####"))
	}
	return number
}

// phoneBare is any number that somebody may have.
func (g generator) phoneBare() string {
	if g.IntN(3) > 0 {
		return g.phone()
	}
	return g.digits(g.pick(
		"N##N######", "1N##N######", "0##########", "N##-####", "N## N## ####", "0%## ######", "0%########", "0%##/#######", "%## ### ###",
		"## ## ## ##", "#### ####", "98765 43###", "9876543###", "0## ### ####", "(0##) ### ####", "(0#) #### ####", "02#-########",
		"0%#-####-####", "+##(#)##########", "0151 ########", "0521-######", "(06 %#) ###-###", "%## ## ###",
	))
}

func (g generator) ip() string {
	v4 := func() string {
		return fmt.Sprintf("%d.%d.%d.%d", 1+g.IntN(223), g.IntN(256), g.IntN(256), 1+g.IntN(254))
	}
	group := func() string { return fmt.Sprintf("%x", 1+g.IntN(65535)) }
	switch g.IntN(12) {
	case 0:
		return fmt.Sprintf("10.%d.%d.%d", g.IntN(256), g.IntN(256), g.IntN(256))
	case 1:
		return fmt.Sprintf("192.168.%d.%d", g.IntN(256), g.IntN(256))
	case 2:
		var b [16]byte
		for i := range b {
			b[i] = byte(g.IntN(256))
		}
		return netip.AddrFrom16(b).StringExpanded()
	case 3:
		return strings.ToUpper(fmt.Sprintf("2001:db8:%s:%s:%s:%s:%s:%s", group(), group(), group(), group(), group(), group()))
	case 4:
		return "fe80::" + group() + ":" + group() + g.pick("", "%eth0", "%en1")
	case 5:
		return "2001:db8::" + group()
	case 6:
		return g.pick("::1", "::ffff:"+v4(), "2001:db8::", "64:ff9b::"+v4(), "fd00:"+group()+"::1")
	default:
		return v4()
	}
}

func (g generator) mac() string {
	b := g.of("abcdef", 1) + g.of(hexes, 11)
	if g.IntN(2) == 0 {
		b = strings.ToUpper(b)
	}
	switch g.IntN(5) {
	case 0:
		return grouped(b, ".", 4, 4)
	case 1:
		return grouped(b, "-", 2, 2, 2, 2, 2)
	}
	return grouped(b, ":", 2, 2, 2, 2, 2)
}

func (g generator) jwt() string {
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		enc.EncodeToString([]byte(`{"sub":"`+g.of(figure, 10)+`","name":"`+g.word()+`"}`)) + "." + g.of(lowers+uppers+figure, 43)
}

func (g generator) key() string {
	all := lowers + uppers + figure
	return g.pick("sk-"+g.of(all, 46)+"7", "sk-ant-api03-"+g.of(all, 80), "AKIA"+g.of(uppers+figure, 15)+"2", "ghp_"+g.of(all, 35)+"3",
		"github_pat_"+g.of(all, 22)+"_"+g.of(all, 58)+"9", "xoxb-"+g.of(figure, 12)+"-"+g.of(figure, 12)+"-"+g.of(all, 24),
		"glpat-"+g.of(all, 19)+"4", "AIza"+g.of(all, 34)+"5", "sk_live_"+g.of(all, 23)+"1", "npm_"+g.of(all, 35)+"6",
		"fh_"+g.of(lowers+figure, 12)+"_"+g.of(all, 42)+"8")
}

func (g generator) pem() string {
	kind := g.pick("", "RSA ", "EC ", "OPENSSH ")
	body := grouped(g.of(lowers+uppers+figure+"+/", 256), "\n", 64, 64, 64)
	return "-----BEGIN " + kind + "PRIVATE KEY-----\n" + body + "\n-----END " + kind + "PRIVATE KEY-----"
}
