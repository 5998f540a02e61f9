package e2e_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// shipped are lines of migrations that were released with an asterisk in them
// and can't be edited any more. None is a statement that a session prepares.
var shipped = []finding{
	{"migrations/catalog/00001_catalog.sql", "select * into last from operator_audit order by seq desc limit 1;"},
	{"migrations/tenant/00001_tenant.sql", "execute format('with early as (delete from freehold.predictions_rest where id >= %L and id < %L returning *)"},
	{"migrations/tenant/00001_tenant.sql", "insert into freehold.%I select * from early', lo, hi, part);"},
}

// finding is a line of a file.
type finding struct{ file, line string }

// Each SQL text of the project names its columns: with an asterisk in it, a
// migration that adds a column would break every statement that a session has
// prepared (0A000), and send rows that nobody reads.
func TestStatementsNameTheirColumns(t *testing.T) {
	t.Parallel()
	texts, found := 0, []finding(nil)
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		if err != nil || entry.IsDir() {
			if err == nil && (name == "bin" || name == "testdata" || strings.HasPrefix(name, ".") && name != "..") {
				return fs.SkipDir
			}
			return err
		}
		read := sqlOf(name)
		if read == nil {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		list, err := read(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		file, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		for _, sql := range list {
			texts++
			for _, line := range asterisks(sql) {
				found = append(found, finding{filepath.ToSlash(file), line})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !slices.Contains(shipped, f) {
			t.Errorf("%s: an asterisk for columns: %s", f.file, f.line)
		}
	}
	for _, f := range shipped {
		if !slices.Contains(found, f) {
			t.Errorf("%s no longer has the line: %s", f.file, f.line)
		}
	}
	if texts < 50 {
		t.Errorf("only %d SQL texts: the search is blind", texts)
	}
}

// sqlOf returns how to read the SQL texts of a file, or nil when it has none
// that run outside tests.
func sqlOf(name string) func(text string) ([]string, error) {
	switch {
	case strings.HasSuffix(name, ".sql"):
		return func(text string) ([]string, error) { return []string{text}, nil }
	case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
		return sqlInGo
	}
	return nil
}

var keyword = regexp.MustCompile(`(?i)\b(select|returning)\b`)

// sqlInGo returns the string literals of a Go file that read like SQL, sums of
// them as one text.
func sqlInGo(source string) (texts []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BasicLit, *ast.BinaryExpr:
			text, whole := literal(n.(ast.Expr))
			if keyword.MatchString(text) {
				texts = append(texts, text)
			}
			return !whole
		}
		return true
	})
	return texts, nil
}

// literal is the text of a string or a sum of strings, with a question mark for
// each part that isn't one; whole tells that there is no such part.
func literal(e ast.Expr) (text string, whole bool) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return literal(e.X)
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			left, l := literal(e.X)
			right, r := literal(e.Y)
			return left + right, l && r
		}
	}
	return " ? ", false
}

var (
	comment  = regexp.MustCompile(`(?s)--[^\n]*|/\*.*?\*/`)
	asterisk = regexp.MustCompile(`(?i)(\bselect(\s+(all|distinct(\s+on\s*\([^)]*\))?))?|\breturning|,)\s*\*` +
		`|[a-z0-9_"\])]\s*\.\s*\*`)
)

// asterisks finds the lines of an SQL text in which one stands for columns;
// count(*) and products don't count.
func asterisks(sql string) (lines []string) {
	sql = comment.ReplaceAllStringFunc(sql, func(c string) string { return strings.Repeat("\n", strings.Count(c, "\n")) })
	if !keyword.MatchString(sql) {
		return nil
	}
	for _, at := range asterisk.FindAllStringIndex(sql, -1) {
		begin := strings.LastIndexByte(sql[:at[1]], '\n') + 1
		rest, _, _ := strings.Cut(sql[begin:], "\n")
		lines = append(lines, strings.TrimSpace(rest))
	}
	return lines
}

// The search itself: what it has to find, and what only looks like it.
func TestAsterisksAreFound(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]int{
		"select * from t":                                  1,
		"SELECT\n\t*\nFROM t":                              1,
		"select*from t":                                    1,
		"select all * from t":                              1,
		"select distinct * from t":                         1,
		"select distinct on (a, b) * from t":               1,
		"select t.* from t":                                1,
		`select "T".*, u . * from "T", u`:                  2,
		"select (row).* from t":                            1,
		"select a, * from t":                               1,
		"select * into r from t":                           1,
		"select a /* why */ , * from t":                    1,
		"insert into t (a) values (1) returning *":         1,
		"delete from t returning t.*":                      1,
		"with x as (delete from t returning *) select 1":   1,
		"execute format('insert into %I select * from x')": 1,
		"select a from (select * from t) x":                1,
		"select exists (select * from t)":                  1,

		"select count(*) from t":                           0,
		"select count( * ), sum(a * b) from t":             0,
		"select a*2, 3 * b from t where c.d * 2 > 1":       0,
		"select 1 -- select * from t":                      0,
		"select 1 /* select *\n from t.* */ from t":        0,
		"selected * from":                                  0,
		"choose t.* from what there is":                    0,
		"insert into t (a) values (2 * $1) returning a, b": 0,
	} {
		if got := asterisks(sql); len(got) != want {
			t.Errorf("%s: found %q, want %d", sql, got, want)
		}
	}
	const source = `package p
		import _ "select * from here"
		// select * from a comment
		const a = "select * from t"
		const b = ` + "`\nselect a,\n t.*\nfrom t`" + `
		var c = "select " + "* from t"
		var d = "select " + ("a, ") + name("* of it") + ", t.* from t"
		var e = f("update t set a = 1 returning *", "not " + g("select t.*"))
		const f = "from * to *"
		const g = "select count(*) from t where b like 'x%'"
	`
	texts, err := sqlInGo(source)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, text := range texts {
		got = append(got, asterisks(text)...)
	}
	want := []string{"select * from t", "t.*", "select * from t", "select a,  ? , t.* from t",
		"update t set a = 1 returning *", "select t.*"}
	if !slices.Equal(got, want) {
		t.Errorf("in Go: %q\nwant    %q", got, want)
	}
	if _, err := sqlInGo("package"); err == nil {
		t.Error("a file that can't be parsed passes")
	}
	for name, reads := range map[string]bool{"a.sql": true, "a.go": true, "a_test.go": false, "a.md": false} {
		if (sqlOf(name) != nil) != reads {
			t.Errorf("%s: want read: %v", name, reads)
		}
	}
}
