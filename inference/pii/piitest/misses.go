package piitest

import (
	"fmt"
	"strings"
)

// misses are the slots that only look like personal data.
var misses = map[string]func(generator) string{
	"name": func(g generator) string {
		first, last := g.word(), g.surname()
		return strings.ToUpper(first[:1]) + first[1:] + " " + strings.ToUpper(last[:1]) + last[1:]
	},
	"order16": generator.failingLuhn,
	"uuid":    func(g generator) string { return grouped(g.of(hexes, 32), "-", 8, 4, 4, 4) },
	"sha":     func(g generator) string { return g.of(hexes, 40) },
	"sha256":  func(g generator) string { return g.of(hexes, 64) },
	"short":   func(g generator) string { return g.of(hexes, 7) },
	"isbn13":  func(g generator) string { return g.isbn13(g.pick("-", "", " ")) },
	"isbn10":  func(g generator) string { return g.isbn10(g.pick("-", "")) },
	"unix":    func(g generator) string { return g.digits("17########") },
	"unixms":  func(g generator) string { return g.digits("17###########") },
	"iso": func(g generator) string {
		return g.date() + g.pick("T", " ") + g.clock() + g.pick("", "Z", "+02:00", ".123Z")
	},
	"date": generator.date,
	"datede": func(g generator) string {
		return fmt.Sprintf("%02d.%02d.20%02d", 1+g.IntN(28), 1+g.IntN(12), g.IntN(30))
	},
	"dateus": func(g generator) string {
		return fmt.Sprintf("%02d/%02d/20%02d", 1+g.IntN(12), 1+g.IntN(28), g.IntN(30))
	},
	"compact": func(g generator) string { return strings.ReplaceAll(g.date(), "-", "") },
	"clock":   generator.clock,
	"ean":     generator.ean,
	"tracking": func(g generator) string {
		return g.pick("1Z999AA1"+g.of(figure, 10), "9400 1000 0000 "+g.digits("#### #### ##"), "RR"+g.of(figure, 9)+"DE", g.digits("7749########"))
	},
	"semver": func(g generator) string {
		return fmt.Sprintf("%d.%d.%d", g.IntN(20), g.IntN(40), g.IntN(99)) + g.pick("", "-beta.1", "-rc2", "+build.5")
	},
	"version4": func(g generator) string {
		return fmt.Sprintf("%d.%d.%d.%d", g.IntN(30), g.IntN(20), g.IntN(200), g.IntN(99))
	},
	"price": func(g generator) string {
		return g.digits(g.pick("$%##.##", "€%.###,##", "%#,### USD", "$%,###,###.##", "%## ### kr", "R$ %.###,##", "£%##.##"))
	},
	"coords": func(g generator) string { return g.digits("%#.######, -%#.######") },
	"hexdump": func(g generator) string {
		return grouped(g.of(hexes, 32), " ", 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)
	},
	"hexwords": func(g generator) string { return grouped(g.of(hexes, 32), " ", 4, 4, 4, 4, 4, 4, 4) },
	"part": func(g generator) string {
		return g.digits(g.pick("PN-###-###-####", "###-####-##", "A%##-####", "N##-##-###-##", "####-####-###", "XJ-###.###.###"))
	},
	"partphone": func(g generator) string { return g.digits("N##-N##-####") },
	"ticket": func(g generator) string {
		return g.digits(g.pick("INC0######", "#%#######", "JIRA-####", "CASE-%######", "TKT-2024-#####"))
	},
	"badiban": func(g generator) string { return "DE" + g.pick("00", "01", "99") + g.of(figure, 18) },
	"badssn": func(g generator) string {
		return g.digits(g.pick("000-%#-####", "666-%#-####", "9##-0#-####", "N##-00-####", "N##-%#-0000", "078-05-1120"))
	},
	"handle": func(g generator) string {
		return g.pick("@"+g.word(), "root@localhost", "user@host", "react@18.2.0", "logo@2x.png", "@types/node@20.1.0", "git@github.com:org/repo.git")
	},
	"float": func(g generator) string { return g.digits("0.##########") },
	"big": func(g generator) string {
		return g.digits(g.pick("%,###,###,###", "%##########", "%.### .###", "%### ###"))
	},
	"range": func(g generator) string {
		return g.digits(g.pick("1999-2004", "2010-2024", "pp. 1##-1##", "%###-%###"))
	},
	"cpp": func(g generator) string {
		return g.pick("std::vector", "abc::def", "Foo::Bar::baz", "face::cafe()", "a::b")
	},
	"id9": func(g generator) string { return g.digits("%########") },
	"url": func(g generator) string {
		return "https://" + g.word() + ".example.com/" + g.pick("a/b", "x?id="+g.of(figure, 8), "p/"+g.of(figure, 12)+".html")
	},
	"placehold": func(g generator) string { return g.pick("[EMAIL_1]", "[PHONE]", "<email>", "{{card}}", "[CARD_2_abc]") },
}

func (g generator) failingLuhn() string {
	num := g.pick("4", "5", "6", "2", "3", "1", "9") + g.of(figure, 14)
	check := luhnDigit(num)
	wrong := g.of(figure, 1)
	for wrong == check {
		wrong = g.of(figure, 1)
	}
	return grouped(num+wrong, g.pick("", "", "-", " "), 4, 4, 4)
}

func (g generator) date() string {
	return fmt.Sprintf("20%02d-%02d-%02d", g.IntN(30), 1+g.IntN(12), 1+g.IntN(28))
}

func (g generator) clock() string {
	return fmt.Sprintf("%02d:%02d:%02d", g.IntN(24), g.IntN(60), g.IntN(60))
}

func (g generator) ean() string {
	num := g.pick("40", "50", "73", "30", "87") + g.of(figure, 10)
	sum := 0
	for i, c := range num {
		sum += int(c-'0') * (1 + i%2*2)
	}
	return num + fmt.Sprint((10-sum%10)%10)
}

func (g generator) isbn13(sep string) string {
	num := "978" + g.of(figure, 9)
	sum := 0
	for i, c := range num {
		sum += int(c-'0') * (1 + i%2*2)
	}
	return grouped(num+fmt.Sprint((10-sum%10)%10), sep, 3, 1, 2, 6)
}

func (g generator) isbn10(sep string) string {
	num := g.of(figure, 9)
	sum := 0
	for i, c := range num {
		sum += int(c-'0') * (10 - i)
	}
	check := fmt.Sprint((11 - sum%11) % 11)
	if check == "10" {
		check = "X"
	}
	return grouped(num+check, sep, 1, 3, 5)
}
