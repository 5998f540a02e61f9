package pii_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"freehold/inference/pii"
)

// marked splits a text with marks, "call ⟦PHONE:555-123-4567⟧", into the text and
// its matches.
func marked(t *testing.T, text string) (string, []pii.Match) {
	t.Helper()
	var b strings.Builder
	var gold []pii.Match
	for {
		before, rest, more := strings.Cut(text, "⟦")
		b.WriteString(before)
		if !more {
			return b.String(), gold
		}
		entity, rest, ok := strings.Cut(rest, ":")
		value, after, closed := strings.Cut(rest, "⟧")
		if !ok || !closed {
			t.Fatalf("bad marks: %s", text)
		}
		start := b.Len()
		b.WriteString(value)
		gold = append(gold, pii.Match{Start: start, End: b.Len(), Entity: pii.Entity(entity)})
		text = after
	}
}

func mark(text string, matches []pii.Match) string {
	var b strings.Builder
	end := 0
	for _, m := range matches {
		fmt.Fprintf(&b, "%s⟦%s:%s⟧", text[end:m.Start], m.Entity, text[m.Start:m.End])
		end = m.End
	}
	return b.String() + text[end:]
}

func check(t *testing.T, texts ...string) {
	t.Helper()
	t.Parallel()
	s := pii.New(pii.Options{})
	for _, want := range texts {
		text, gold := marked(t, want)
		if got := s.Find(text); !slices.Equal(got, gold) {
			t.Errorf("got  %s\nwant %s", mark(text, got), want)
		}
	}
}

func TestFindCard(t *testing.T) {
	check(t,
		"⟦CARD:4111111111111111⟧", "⟦CARD:4111 1111 1111 1111⟧", "⟦CARD:4111-1111-1111-1111⟧.", "4111.1111.1111.1112",
		"amex ⟦CARD:378282246310005⟧ ⟦CARD:3782 822463 10005⟧ ⟦CARD:3782-822463-10005⟧",
		"diners ⟦CARD:30569309025904⟧, ⟦CARD:3056 930902 5904⟧; ⟦CARD:38520000023237⟧",
		"discover ⟦CARD:6011111111111117⟧ jcb ⟦CARD:3530111333300000⟧ mc ⟦CARD:5555555555554444⟧ ⟦CARD:2223003122003222⟧",
		"maestro ⟦CARD:6759649826438453⟧ ⟦CARD:501800000009⟧ ⟦CARD:6304000000000000000⟧",
		"visa ⟦CARD:4222222222222⟧ and ⟦CARD:4000 0000 0000 0000 006⟧",
		`"⟦CARD:4111111111111111⟧"`, "(⟦CARD:4111111111111111⟧)", "card=⟦CARD:4111111111111111⟧&x", "card:⟦CARD:4111111111111111⟧,", "[⟦CARD:4111111111111111⟧]",
		"card-⟦CARD:4111111111111111⟧", "卡号⟦CARD:4111111111111111⟧。", "1,⟦CARD:4111111111111111⟧,2", "⟦CARD:4111111111111111⟧|12|27|123",
		"⟦CARD:4111111111111111⟧ 12/27 123", "⟦CARD:4111 1111 1111 1111⟧ 123", "⟦CARD:4111111111111111⟧\n", "\\n⟦CARD:4111111111111111⟧\\n",
		"⟦CARD:4111\u00a01111\u00a01111\u00a01111⟧",
		"pay the invoice with ⟦CARD:4111111111111111⟧", "card # ⟦CARD:4111111111111111⟧", "%20\\|⟦CARD:4111111111111111⟧|%20/",
		// Not: Luhn fails, longer runs, codes, hashes.
		"4111111111111112", "4111 1111 1111 1112", "41111111111111111111", "a4111111111111111", "4111111111111111b", "0000000000000000",
		"550e8400-e29b-41d4-a716-411111111111", "e29b-4111111111111111", "4111-1111-1111-1111-1234", "0x4111111111111111", "1.4111111111111111",
		"order number 4111111111111111", "deadbeef4111111111111111",
	)
}

func TestFindIBAN(t *testing.T) {
	check(t,
		"IBAN ⟦IBAN:GB29NWBK60161331926819⟧", "IBAN: ⟦IBAN:GB29 NWBK 6016 1331 9268 19⟧.", "iban=⟦IBAN:gb29nwbk60161331926819⟧;",
		"⟦IBAN:DE89370400440532013000⟧", "⟦IBAN:DE89 3704 0044 0532 0130 00⟧ 2 days", "(⟦IBAN:FR1420041010050500013M02606⟧)", "⟦IBAN:DE89-3704-0044-0532-0130-00⟧",
		"⟦IBAN:NO9386011117947⟧ ⟦IBAN:MT84MALT011000012345MTLCAST001S⟧ ⟦IBAN:BR9700360305000010009795493P1⟧",
		"⟦IBAN:AL47212110090000000235698741⟧, ⟦IBAN:CH9300762011623852957⟧", "\"⟦IBAN:NL91ABNA0417164300⟧\"", "IBAN⟦IBAN:NL91ABNA0417164300⟧",
		// Not: checksum, length, structure, country.
		"GB28NWBK60161331926819", "DE8937040044053201300", "DE893704004405320130000", "ZZ89370400440532013000", "XGB29NWBK60161331926819",
		"DE89 3704 0044 0532 0130 01",
	)
}

func TestFindSSN(t *testing.T) {
	check(t,
		"⟦SSN:123-45-6789⟧", "⟦SSN:123 45 6789⟧", "SSN: ⟦SSN:123456789⟧", "ssn ⟦SSN:123.45.6789⟧", "social security number is ⟦SSN:536904399⟧!", "SSN#⟦SSN:536-90-4399⟧",
		"(⟦SSN:536-90-4399⟧)", "ssn=⟦SSN:536-90-4399⟧", "a,⟦SSN:536-90-4399⟧,b", `{"ssn":"⟦SSN:536904399⟧"}`, "id ⟦SSN:536\u201190\u20114399⟧",
		// Not: never given out, mixed, bare without a word, rows of numbers.
		"000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "078-05-1120", "111-11-1111", "123-45 6789", "536904399",
		"12 536 90 4399 7", "1536-90-4399", "536-90-43991", "part no. 536-90-4399",
	)
}

func TestFindEmail(t *testing.T) {
	check(t,
		"⟦EMAIL:a@b.co⟧", "<⟦EMAIL:john.doe+tag@sub.example.co.uk⟧>", "mailto:⟦EMAIL:x_y-z@example.org⟧?subject=a", "(⟦EMAIL:o'brien@example.ie⟧)", "'⟦EMAIL:a@example.com⟧'",
		"to=⟦EMAIL:a@example.com⟧&cc=⟦EMAIL:b@example.com⟧", "⟦EMAIL:a@example.com⟧,⟦EMAIL:b@example.com⟧;⟦EMAIL:c@example.com⟧", "Mail ⟦EMAIL:a@example.com⟧.", "⟦EMAIL:a@example.com⟧...",
		"⟦EMAIL:jürgen@münchen.de⟧", "⟦EMAIL:иван@пример.рф⟧", "⟦EMAIL:用户@例子.广告⟧", "请联系⟦EMAIL:zhang@example.com⟧谢谢", "⟦EMAIL:a@xn--mnchen-3ya.de⟧", "⟦EMAIL:a@example.xn--p1ai⟧",
		`⟦EMAIL:"john doe"@example.com⟧`, "⟦EMAIL:a@example.com⟧. Next", "⟦EMAIL:a@example.com⟧.Next sentence", "⟦EMAIL:A.B@EXAMPLE.COM⟧", "⟦EMAIL:1@2.io⟧", "\\n⟦EMAIL:joe@example.com⟧\\n",
		"**⟦EMAIL:a@example.com⟧**", "_⟦EMAIL:a@example.com⟧_", "`⟦EMAIL:a@example.com⟧`", "|⟦EMAIL:a@example.com⟧|", "⟦EMAIL:a@example.com⟧/x", "email:⟦EMAIL:a@example.com⟧", "#⟦EMAIL:a@example.com⟧",
		"⟦EMAIL:user%host@example.com⟧", "⟦EMAIL:a@example.com⟧\n⟦EMAIL:b@example.com⟧", "⟦EMAIL:5551234567@example.com⟧", "⟦EMAIL:john-1990-01-02@example.com⟧", "⟦EMAIL:10.1.2.3@example.com⟧",
		"https://⟦EMAIL:joe@example.com⟧/", "\u201c⟦EMAIL:a@example.com⟧\u201d",
		// Not: no domain, no local part, packages, pictures.
		"user@host", "@handle", "a@", "@example.com", "react@18.2.0", "logo@2x.png", "@types/node@20.1.0", "git@github.com:a/b.git", "a@b.c", "a @ example.com", "a@.com", "a@example..com",
	)
}

func TestFindAddress(t *testing.T) {
	check(t,
		"⟦IP:192.168.0.1⟧", "⟦IP:8.8.8.8⟧:53", "⟦IP:10.0.0.0⟧/8", "⟦IP:1.2.3.4⟧.", "[⟦IP:1.2.3.4⟧]", "ip=⟦IP:1.2.3.4⟧", "⟦IP:10.0.0.1⟧-⟦IP:10.0.0.9⟧", "http://⟦IP:1.2.3.4⟧/x", "(⟦IP:255.255.255.255⟧)",
		"⟦IP:2001:0db8:85a3:0000:0000:8a2e:0370:7334⟧", "⟦IP:2001:DB8::1⟧", "⟦IP:::1⟧", "[⟦IP:2001:db8::1⟧]:80", "⟦IP:fe80::1%eth0⟧", "⟦IP:::ffff:1.2.3.4⟧", "⟦IP:2001:db8::⟧/32", "ip:⟦IP:2001:db8::1⟧,",
		"addr ⟦IP:1:2:3:4:5:6:7:8⟧", "from ⟦IP:2001:db8::1⟧: hello", "⟦IP:64:ff9b::192.0.2.33⟧", "\"⟦IP:2001:db8:1::ab9:c0a8:102⟧\"", "ends with ⟦IP:2001:db8::7⟧.", "⟦IP:2001:db8:0:0:0:0:2:1⟧",
		"⟦MAC:00:1A:2B:3C:4D:5E⟧", "mac=⟦MAC:00-1a-2b-3c-4d-5e⟧.", "⟦MAC:001a.2b3c.4d5e⟧", "(⟦MAC:aa:bb:cc:dd:ee:ff⟧)", "⟦MAC:00:1a:2b:ff:fe:3c:4d:5e⟧",
		// Not: versions, longer dotted numbers, times, namespaces, fingerprints.
		"version 1.2.3.4", "v1.2.3.4", "Version: 1.2.3.4", "nginx/1.2.3.4", "1.2.3.4.5", "1.3.6.1.4.1.311", "256.1.1.1", "1.2.3", "1.2.3.4-beta", "a1.2.3.4", "section 4.3.2.1", "update from 1.2.3.4 to 2.3.4.5",
		"12:30:45", "std::vector", "a::b", "abc::def()", "2024-01-15T10:30:00", "1:2", "00:1a:2b:3c:4d", "aa:bb:cc:dd:ee:ff:00:11:22:33", "x::", "::", "foo:bar:baz", "20-24-01-15-10-30",
	)
}

func TestFindPhone(t *testing.T) {
	check(t,
		// As North America writes them.
		"⟦PHONE:(555) 123-4567⟧", "US phone ⟦PHONE:(555) 123-4567 x123⟧", "⟦PHONE:555-123-4567⟧", "⟦PHONE:555.123.4567⟧", "⟦PHONE:1-555-123-4567⟧", "⟦PHONE:+1-555-123-4567⟧", "⟦PHONE:+1 555 123 4567⟧",
		"⟦PHONE:001-555-123-4567⟧", "⟦PHONE:001-555-123-4567x1234⟧", "⟦PHONE:+1-555-123-4567x99⟧", "⟦PHONE:(555)123-4567⟧", "⟦PHONE:(555)123-4567x12345⟧", "⟦PHONE:555-123-4567x123⟧", "⟦PHONE:555.123.4567x12345⟧",
		"⟦PHONE:555-123-4567 ext. 12⟧", "⟦PHONE:555-123-4567, ext 12⟧", "⟦PHONE:1 (555) 123-4567⟧", "⟦PHONE:+15551234567⟧", "⟦PHONE:(212) 555-0199⟧", "⟦PHONE:+1 (212) 555-0199⟧", "⟦PHONE:+1.555.123.4567⟧",
		"⟦PHONE:001-275-123-4567 x55⟧", "⟦PHONE:(012)345-6789⟧",
		// Elsewhere.
		"⟦PHONE:+44 20 7946 0958⟧", "⟦PHONE:+44 (0)20 7946 0958⟧", "⟦PHONE:+44(0)1632 960 001⟧", "⟦PHONE:020 7946 0958⟧", "⟦PHONE:(020) 7946 0958⟧", "⟦PHONE:07700 900123⟧", "⟦PHONE:+49 30 901820⟧", "⟦PHONE:030/901820⟧",
		"⟦PHONE:01 42 68 53 00⟧", "⟦PHONE:01.42.68.53.00⟧", "⟦PHONE:+33 (0)1 42 68 53 00⟧", "⟦PHONE:054-123-4567⟧", "⟦PHONE:+91 98765 43210⟧", "⟦PHONE:(11) 98765-4321⟧", "⟦PHONE:0044 20 7946 0958⟧", "⟦PHONE:+48(0)3612345678⟧",
		"⟦PHONE:+1 - 555 - 123 - 4567⟧", "⟦PHONE:+49 (0) 30 / 901820⟧", "⟦PHONE:+39 06 6982⟧",
		"⟦PHONE:0491 570 156⟧", "⟦PHONE:0123-456 78 90⟧", "⟦PHONE:084 123 4567⟧", "⟦PHONE:044 123 45 67⟧", "⟦PHONE:0347 7423424⟧", "⟦PHONE:05121 52 12 65⟧", "⟦PHONE:(02) 1234-567⟧", "⟦PHONE:(06 52) 123-456⟧",
		// Where they stand.
		"tel:⟦PHONE:+15551234567⟧", "(⟦PHONE:555-123-4567⟧)", "(⟦PHONE:+1 555 123 4567⟧)", "((⟦PHONE:(555) 123-4567⟧))", "\"⟦PHONE:555-123-4567⟧\"", "phone=⟦PHONE:5551234567⟧", "Phone:⟦PHONE:5551234567⟧.", "call ⟦PHONE:555-1234⟧!",
		"⟦PHONE:555-123-4567⟧/⟦PHONE:555-123-4568⟧", "⟦PHONE:555-123-4567⟧, ⟦PHONE:555-123-4568⟧", "call ⟦PHONE:555-123-4567⟧ 2 times", "电话⟦PHONE:13812345678⟧", "Tel.: ⟦PHONE:0521-123456⟧", "mobile ⟦PHONE:9876543210⟧",
		"⟦PHONE:020 7946 0958⟧ Fax", "WhatsApp ⟦PHONE:612 345 678⟧", "phoneNumber: ⟦PHONE:5551234567⟧", "phone_number=⟦PHONE:5551234567⟧", "my number is ⟦PHONE:555 123 4567⟧", "My number is ⟦PHONE:2125551234⟧", "Work: ⟦PHONE:612 345 678⟧", `{"mobile":"⟦PHONE:5551234567⟧"}`,
		"Tel: ⟦PHONE:12 34 56 78⟧", "Fax ⟦PHONE:(06 52) 123-456⟧", "call me at ⟦PHONE:5551234567⟧ after 5",
		"Call any time: ⟦PHONE:555-123-4567⟧", "reach my account manager at ⟦PHONE:2125551234⟧", "the order was called in from ⟦PHONE:555-123-4567⟧",
		// Not: dates, times, numbers of other things.
		"2024-01-15", "15.01.2024", "01/15/2024", "2024-01-15 10:30:00", "1700000000", "1700000000000", "978-3-16-148410-0", "0-306-40615-2", "ISBN 0306406152", "4006381333931", "version 1.2.3", "1,234,567.89", "$1,234,567",
		"12.345.678", "555-123-4567-89", "a555-123-4567", "555-123-4567a", "order number 555-123-4567", "part no. 555-123-4567", "SKU 555-123-4567", "40.712776, -74.005974", "0.1234567890", "1999-2004", "5551234567",
		"call 2024-01-15", "550e8400-e29b-41d4-a716-446655440000", "deadbeef5551234567", "(5551234567", "id 12345678", "3-2-1", "100000000", "9400 1000 0000 0000 0000 00", "call 911", "tracking 9400 1000 0000 0000 0000 00",
		"Cambridge, MA 02139-4307", "05.12.23 1030", "01.02.2024 0900", "(2019) 12-34-56", "0.25 0.50 0.75", "09:00-17:00", "0900 - 1730", "000-12-3456",
		"10:30:00", "1+1=2", "+5", "(1) 2 (3)", "call 3 times",
	)
}

func TestFindSecret(t *testing.T) {
	pem := "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA1234\nabcd==\n-----END RSA PRIVATE KEY-----"
	jwt := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_-def"
	check(t,
		"⟦KEY:"+pem+"⟧ and", "key: ⟦KEY:-----BEGIN PRIVATE KEY-----\\nMIIEpAIBAAKCAQEA1234⟧ cut", "⟦KEY:-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----⟧",
		"-----BEGIN CERTIFICATE-----\nMIIEpAIBAAKCAQEA1234\n-----END CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----",
		"⟦JWT:"+jwt+"⟧.", "Bearer ⟦JWT:"+jwt+"⟧", `"token":"⟦JWT:`+jwt+`⟧"`, "eyJ.eyJ.eyJ", "eyJub3Q.json.x",
		"https://⟦URL:user:secret⟧@example.com/", "postgres://⟦URL:u:p@ss⟧@db:5432/x", "redis://⟦URL::secret⟧@cache:6379", "mysql://⟦URL:u:a/b⟧@db/x", "http://example.com:80/a@b", "ssh://git@example.com/a", "https://a.com/x:y@z",
		"⟦KEY:AKIAIOSFODNN7EXAMPLE⟧", "⟦KEY:AKIAIOSFODNNXEXAMPLE⟧", "aws_secret_access_key = ⟦KEY:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY⟧", "⟦KEY:ghp_1234567890abcdefghijklmnopqrstuvwxyz⟧", "⟦KEY:sk-abcdefghij0123456789abcd⟧",
		"⟦KEY:sk-proj-abc_def-ghi0123456789⟧", "⟦KEY:xoxb-123456789012-abcdefABCDEF⟧", "⟦KEY:glpat-abcdefghij0123456789⟧", "⟦KEY:sk_live_abcdefghij0123456789⟧", "⟦KEY:fh_abcdefghijkl_0123456789abcdefghijklmnop⟧",
		"password=⟦KEY:hunter2⟧", "password: ⟦KEY:hunter2⟧.", `"password": "⟦KEY:correct horse⟧"`[:0]+`"password": "⟦KEY:correcthorse⟧"`, "my password is ⟦KEY:hunter2⟧", "DB_PASSWORD=⟦KEY:letmein⟧", "api_key='⟦KEY:abcd⟧'",
		"api-key: ⟦KEY:0a1b2c3d4e5f⟧", "Authorization: Bearer ⟦KEY:0a1b2c3d4e5f6789⟧", "x-api-key=⟦KEY:0a1b2c3d4e5f⟧", "client_secret=⟦KEY:abc123def456⟧&grant=1", `{\"password\":\"⟦KEY:hunter2⟧\"}`,
		// Not: prose, variables, masks, hyphenated words.
		"password: must be long", "the password is required", "password=$PASS", "password=****", "password: <password>", "token: 5", "max_tokens=100", "a secret is a secret", "sk-learn-and-other-words-here", "risk-assessment-of-everything-there",
		"keyboard: 12345", "api_key=${API_KEY}", "token=auto", "passwords: hunter2",
	)
}
