package migrations

import (
	"strings"
	"unicode/utf8"
)

// build is an index as the statement names it that builds it concurrently.
type build struct {
	schema string // of the table; empty: the search_path says
	table  string
	name   string
}

func (b build) is(i index) bool {
	return b.name == i.Name && b.table == i.Table && (b.schema == "" || b.schema == i.Schema)
}

// concurrentBuild reads the head of a statement of the form
//
//	create [unique] index concurrently [if not exists] NAME on [only] [SCHEMA.]TABLE
//
// Of any other, also of an index without a name, it says no.
func concurrentBuild(statement string) (b build, ok bool) {
	w := words(statement, 16)
	if !w.take("create") {
		return b, false
	}
	w.take("unique")
	if !w.take("index") || !w.take("concurrently") {
		return b, false
	}
	if w.take("if") && (!w.take("not") || !w.take("exists")) {
		return b, false
	}
	if len(w) > 0 && w[0].is("on") {
		return b, false
	}
	if b.name, ok = w.name(); !ok || !w.take("on") {
		return build{}, false
	}
	w.take("only")
	if b.table, ok = w.name(); ok && w.take(".") {
		b.schema = b.table
		b.table, ok = w.name()
	}
	if !ok {
		return build{}, false
	}
	return b, true
}

// word is a word, a quoted name or a single other character of a statement.
type word struct {
	text   string // folded as Postgres does
	name   bool   // it can be one
	quoted bool
}

func (w word) is(keyword string) bool { return !w.quoted && w.text == keyword }

type phrase []word

// take takes the keyword or sign from the front, if it is there.
func (p *phrase) take(keyword string) bool {
	if len(*p) == 0 || !(*p)[0].is(keyword) {
		return false
	}
	*p = (*p)[1:]
	return true
}

func (p *phrase) name() (string, bool) {
	if len(*p) == 0 || !(*p)[0].name {
		return "", false
	}
	text := (*p)[0].text
	*p = (*p)[1:]
	return text, true
}

// words splits the front of a statement, n words at most, without comments.
func words(sql string, n int) (p phrase) {
	for len(p) < n {
		sql = skip(sql)
		if sql == "" {
			break
		}
		var w word
		if sql[0] == '"' {
			w, sql = quotedName(sql[1:])
		} else {
			end := 0
			for end < len(sql) && inName(sql[end]) {
				end++
			}
			w = word{text: shorten(strings.Map(lower, sql[:end])), name: end > 0}
			if end == 0 {
				_, end = utf8.DecodeRuneInString(sql)
				w.text = sql[:end]
			}
			sql = sql[end:]
		}
		p = append(p, w)
	}
	return p
}

// skip leaves out white space and comments; those of the second form nest.
func skip(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\v")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			sql = skipBlock(sql)
		default:
			return sql
		}
	}
}

func skipBlock(sql string) string {
	depth := 0
	for i := 0; i+1 < len(sql); i++ {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return sql[i+1:]
		}
	}
	return ""
}

// quotedName reads a name after its first quote; two quotes stand for one.
func quotedName(sql string) (w word, rest string) {
	var text strings.Builder
	for {
		before, after, found := strings.Cut(sql, `"`)
		text.WriteString(before)
		sql = after
		if !found || !strings.HasPrefix(sql, `"`) {
			return word{text: shorten(text.String()), name: true, quoted: true}, sql
		}
		text.WriteByte('"')
		sql = sql[1:]
	}
}

func inName(c byte) bool {
	return c == '_' || c == '$' || c >= utf8.RuneSelf ||
		'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func lower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// shorten cuts a name as Postgres does: to 63 bytes of whole characters.
func shorten(name string) string {
	const longest = 63
	if len(name) <= longest {
		return name
	}
	end := longest
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}
