package lint_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"freehold/migrations"
	"freehold/migrations/lint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write what is found into the golden files")

var contracts = regexp.MustCompile(`(?m)^-- freehold:contracts (\d+)$`)

// migration makes a file as the folder's reader would, but also of text that it refuses.
func migration(name, body string) migrations.File {
	file := migrations.File{Version: 1, Name: name, Body: body}
	_, down, _ := strings.Cut(body, "-- +goose Down\n")
	file.HasDown = strings.Contains(down, ";")
	if found := contracts.FindStringSubmatch(body); found != nil {
		file.Contracts, _ = strconv.ParseInt(found[1], 10, 64)
	}
	return file
}

// up is a file with these statements and something to take them back.
func up(name, statements string) migrations.File {
	return migration(name, "-- +goose Up\n"+statements+"\n-- +goose Down\nselect 1;\n")
}

func check(t testing.TB, o lint.Options, files ...migrations.File) []lint.Finding {
	t.Helper()
	findings, err := lint.Check(files, o)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// told are findings as the golden files have them.
func told(findings []lint.Finding) string {
	why := map[string]string{}
	for _, rule := range lint.Rules() {
		why[rule.Name] = rule.Why
	}
	var b strings.Builder
	for _, f := range findings {
		subject := strings.TrimSuffix(strings.TrimSuffix(f.Why, why[f.Rule]), ": ")
		fmt.Fprintf(&b, "%d %s %s | %s | %s\n", f.Line, f.Severity, f.Rule, subject, f.Statement)
	}
	return b.String()
}

// Each file of testdata bears the name of the rule that it is about; good.sql has no
// finding.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		rule := strings.TrimSuffix(filepath.Base(path), ".sql")
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			findings := check(t, lint.Options{}, migration(filepath.Base(path), string(body)))
			got := told(findings)
			golden := strings.TrimSuffix(path, ".sql") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("found\n%s\nwant\n%s", got, want)
			}
			about := slices.ContainsFunc(findings, func(f lint.Finding) bool { return f.Rule == rule })
			if !about && rule != "good" && rule != "allow" && rule != "contracts" {
				t.Errorf("nothing is found by the rule %s", rule)
			}
			if rule == "good" && len(findings) > 0 {
				t.Error("good.sql has findings")
			}
		})
	}
}

// Each rule has a golden file and says what to do, and there is no file of another.
func TestRules(t *testing.T) {
	t.Parallel()
	others := map[string]bool{"good": true, "allow": true, "contracts": true}
	for _, rule := range lint.Rules() {
		others[rule.Name] = true
		if _, err := os.Stat("testdata/" + rule.Name + ".sql"); err != nil {
			t.Error(err)
		}
		if rule.Why == "" || rule.Safe == "" || rule.Severity != lint.Error && rule.Severity != lint.Warning {
			t.Errorf("the rule %s lacks words: %+v", rule.Name, rule)
		}
	}
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		if name = strings.TrimSuffix(name, filepath.Ext(name)); !others[name] {
			t.Errorf("%s belongs to no rule", path)
		}
	}
}

// What an earlier file made is in use, and what it said of it is known.
func TestFilesInOrder(t *testing.T) {
	t.Parallel()
	first := up("00001_a.sql", `
create table shop.orders (id bigint primary key, code varchar(10), price numeric(8, 2), at timestamp(3), note text,
    check (note is not null));
create function shop.fixed() returns text language sql immutable as 'select 1';
create table shop.parts (id int) partition by range (id);
create table shop.plain (id int);`)
	cases := []struct {
		name  string
		files []string // the next ones
		want  string   // rules, in order
	}{
		{"a table of an earlier file", []string{"create index on shop.orders (code);"}, "index-not-concurrently"},
		{"longer", []string{"alter table shop.orders alter code type varchar(20), alter price type numeric(9, 2);"}, ""},
		{"without limit", []string{"alter table shop.orders alter code type text, alter at type timestamp;"}, ""},
		{"longer twice", []string{"alter table shop.orders alter code type varchar(20);",
			"alter table shop.orders alter code type varchar(15);"}, "table-rewrite type-change"},
		{"shorter", []string{"alter table shop.orders alter code type varchar(9);"}, "table-rewrite type-change"},
		{"another scale", []string{"alter table shop.orders alter price type numeric(9, 3);"}, "table-rewrite type-change"},
		{"computed", []string{"alter table shop.orders alter code type text using lower(code);"}, "table-rewrite type-change"},
		{"an array", []string{"alter table shop.orders alter note type text[] using array[note];"}, "table-rewrite type-change"},
		{"renamed", []string{"-- freehold:allow rename-column nobody reads it\nalter table shop.orders rename code to c;",
			"alter table shop.orders alter c type varchar(11);"}, ""},
		{"a known default", []string{"alter table shop.orders add column x text default shop.fixed();"}, ""},
		{"a check in the table", []string{"alter table shop.orders alter note set not null;"}, ""},
		{"no check", []string{"alter table shop.orders alter code set not null;"}, "set-not-null"},
		{"a check by steps", []string{
			"alter table shop.orders add constraint c check (price > 0 and code is not null) not valid;",
			"alter table shop.orders validate constraint c;",
			"alter table shop.orders alter code set not null, drop constraint c;",
		}, ""},
		{"a check of one or the other", []string{
			"alter table shop.orders add constraint c check (price > 0 or code is not null) not valid;",
			"alter table shop.orders validate constraint c;",
			"alter table shop.orders alter code set not null;",
		}, "set-not-null"},
		{"a check that isn't valid", []string{
			"alter table shop.orders add constraint c check (code is not null) not valid;",
			"alter table shop.orders alter code set not null;",
		}, "set-not-null"},
		{"only the parent", []string{"create index parts_id on only shop.parts (id);"}, ""},
		{"only, of a plain table", []string{"create index plain_id on only shop.plain (id);"}, "index-not-concurrently"},
		{"a partition with a check", []string{"alter table shop.plain add constraint p check (id < 9) not valid;",
			"alter table shop.plain validate constraint p;",
			"alter table shop.parts attach partition shop.plain for values from (0) to (9);"}, ""},
		{"a schema of this file", []string{
			"create schema other;\nset local search_path = other;\nselect 1;\ncreate index on t (a);"}, ""},
		{"a schema that may be older", []string{"create schema if not exists other;\ncreate index on other.t (a);"},
			"index-not-concurrently"},
		{"dropped and made again", []string{"-- freehold:allow drop-table it is empty\ndrop table shop.plain;",
			"create table shop.plain (id int);\ncreate index on shop.plain (id);"}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := []migrations.File{first}
			for i, statements := range c.files {
				files = append(files, up(fmt.Sprintf("%05d_b.sql", i+2), statements))
			}
			var got []string
			for _, f := range check(t, lint.Options{}, files...) {
				got = append(got, f.Rule)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("found %v, want %q", got, c.want)
			}
		})
	}
}

// The streams of Freehold's own may touch what is Freehold's.
func TestStreams(t *testing.T) {
	t.Parallel()
	file := up("00001_a.sql", "create table freehold.x (id int);")
	if found := check(t, lint.Options{Stream: lint.StreamFreehold}, file); len(found) > 0 {
		t.Errorf("Freehold's own stream: %+v", found)
	}
	found := check(t, lint.Options{}, file)
	if len(found) != 1 || found[0].Rule != "freehold-schema" || found[0].Safe == "" || found[0].Line != 2 {
		t.Errorf("the product's stream: %+v", found)
	}
	if _, err := lint.Check(nil, lint.Options{Stream: "other"}); err == nil {
		t.Error("a stream that there is not is linted")
	}
}

// The parser has a stack of its own, which nothing that is read may end.
func TestDeepAndLong(t *testing.T) {
	t.Parallel()
	const many = 5000
	for name, statement := range map[string]string{
		"brackets": "select " + strings.Repeat("(", many) + "1" + strings.Repeat(")", many),
		"not":      "select " + strings.Repeat("not ", many) + "true",
		"sum":      "select 1" + strings.Repeat("+1", many),
		"casts":    "select 1" + strings.Repeat("::int", many),
		"nested":   "select " + strings.Repeat("(select ", 600) + "1" + strings.Repeat(")", 600),
		"long":     "select '" + strings.Repeat("x", 1<<20) + "'",
		"NUL":      "select 1\x00",
		"not text": "select '\xff'",
	} {
		found := check(t, lint.Options{}, up("00001_a.sql", statement+";"))
		if len(found) != 1 || found[0].Rule != "parse-error" || len(found[0].Why) > 400 {
			t.Errorf("%s: %.500v", name, found)
		}
	}
	wide := "insert into shop.orders values " + strings.Repeat("(1, 2, 3), ", 3000) + "(4)"
	if found := check(t, lint.Options{}, up("00001_a.sql", wide+";")); len(found) > 0 {
		t.Errorf("a long list: %.500v", found)
	}
}

// What the rules call safe has no finding.
func TestSafeForms(t *testing.T) {
	t.Parallel()
	const down = "\n-- +goose Down\nselect 1;\n"
	file := func(version int, head, statements string) migrations.File {
		return migration(fmt.Sprintf("%05d_a.sql", version), head+"-- +goose Up\n"+statements+down)
	}
	const alone = "-- +goose NO TRANSACTION\n"
	files := []migrations.File{
		file(1, "", "create table shop.orders (id bigint, buyer bigint, code text);\n"+
			"create materialized view shop.totals as select 1 as one;\ncreate domain shop.d as text;\n"+
			"create type shop.mood as enum ('a');"),
		file(2, alone, "drop index concurrently if exists shop.orders_id;\n"+
			"create unique index concurrently orders_id on shop.orders (id);"),
		file(3, "", "set local lock_timeout = '2s';\n"+
			"alter table shop.orders add constraint orders_pkey primary key using index orders_id;\n"+
			"alter table shop.orders add constraint buyer foreign key (buyer) references shop.orders (id) not valid;\n"+
			"alter domain shop.d add constraint c check (value <> '') not valid;\n"+
			"alter type shop.mood add value 'b';"),
		file(4, "", "alter table shop.orders validate constraint buyer;\nalter domain shop.d validate constraint c;"),
		file(5, alone, "set lock_timeout = '10min';\nreindex index concurrently shop.orders_id;"),
		file(6, alone, "drop index concurrently if exists shop.orders_code;"),
		file(7, "", "refresh materialized view concurrently shop.totals;\n"+
			"alter table shop.orders add column c text not null default '';"),
		file(8, "-- freehold:contracts 7\n", "alter table shop.orders drop column code;\ndrop materialized view shop.totals;"),
	}
	if found := check(t, lint.Options{}, files...); len(found) > 0 {
		t.Errorf("found\n%s", told(found))
	}
}
