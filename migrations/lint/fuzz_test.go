package lint_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freehold/migrations"
	"freehold/migrations/lint"
)

func goldenFiles(tb testing.TB) []migrations.File {
	tb.Helper()
	paths, err := filepath.Glob("testdata/*.sql")
	if err != nil {
		tb.Fatal(err)
	}
	var files []migrations.File
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		files = append(files, migration(filepath.Base(path), string(body)))
	}
	return files
}

// Whatever a file holds, the parser outlives it and each finding has a line in it.
func FuzzCheck(f *testing.F) {
	for _, file := range goldenFiles(f) {
		f.Add(file.Body)
	}
	for _, statement := range statements {
		f.Add("-- +goose Up\n" + statement + ";\n-- +goose Down\n" + statement + ";\n")
	}
	check(f, lint.Options{}, up("a.sql", "select 1;")) // the parser's start is no input's fault
	f.Fuzz(func(t *testing.T, body string) {
		lines := strings.Count(body, "\n") + 1
		for _, found := range check(t, lint.Options{}, migration("a.sql", body)) {
			if found.Line < 1 || found.Line > lines {
				t.Errorf("line %d of %d: %+v", found.Line, lines, found)
			}
		}
	})
}

// BenchmarkCheck is a folder of 20 files of twenty lines, when the parser runs already.
func BenchmarkCheck(b *testing.B) {
	golden := goldenFiles(b)
	var files []migrations.File
	for i := range 20 {
		file := golden[i%len(golden)]
		file.Name = fmt.Sprintf("%05d_a.sql", i+1)
		files = append(files, file)
	}
	check(b, lint.Options{}, files...)
	for b.Loop() {
		check(b, lint.Options{}, files...)
	}
}

// statements are of kinds that no rule is about, or that are oddly formed.
var statements = []string{
	"alter aggregate a.sum(int) rename to total", "alter aggregate a.sum(*) owner to x", "alter collation a.c refresh version",
	"alter conversion c rename to d", "alter default privileges revoke execute on functions from public",
	"alter domain d drop constraint if exists c cascade", "alter domain d rename constraint a to b",
	"alter domain d rename to e", "alter event trigger e disable", "alter extension e add table t",
	"alter foreign table f add column x int not null", "alter function f depends on extension e",
	"alter index i attach partition j", "alter index i set tablespace t", "alter large object 1 owner to x",
	"alter materialized view v set schema s", "alter operator + (int, int) owner to x",
	"alter operator class c using btree rename to d", "alter policy p on t rename to q",
	"alter policy p on t to freehold_tenant", "alter procedure p() rename to q", "alter publication p add table t",
	"alter routine r() set schema s", "alter sequence s owned by a.t.c", "alter sequence s set schema t",
	"alter server s options (add x 'y')", "alter statistics s set statistics 1", "alter table only t add x int",
	"alter table t * add x int", "alter table t add column x int check (x > 0) no inherit", "alter table t add like_it int",
	"alter table t alter x add generated always as identity, alter x drop expression if exists",
	"alter table t disable trigger all", "alter table t inherit u", "alter table t no force row level security",
	"alter table t replica identity full", "alter table t set (fillfactor = 70)", "alter table a.b.c add x int",
	"alter text search configuration c rename to d", "alter trigger g on t rename to h", "alter type t add attribute x int",
	"alter type t rename attribute x to y cascade", "alter user mapping for x server s options (set a 'b')",
	"alter view v alter c set default 1", "analyze", "call p(1)", "checkpoint", "close all", "cluster", "cluster verbose t",
	"comment on column a.t.c is null", "comment on constraint c on t is 'x'", "comment on large object 1 is 'x'",
	"copy t from stdin", "copy (select 1) to '/x'", "create access method m type table handler h",
	"create aggregate a.s(int) (sfunc = f, stype = int)", "create cast (int as text) with inout as implicit",
	"create collation c from \"C\"", "create event trigger e on ddl_command_end execute function f()",
	"create foreign data wrapper w", "create function f(int, out x int) returns record language c as 'lib', 'sym'",
	"create function f() returns int return (select 1)", "create index on t ((lower(x)))",
	"create operator a.+ (leftarg = int, rightarg = int, function = f)", "create operator class c for type int using btree as operator 1 <",
	"create policy p on t", "create procedure p() language sql begin atomic update t set x = 1; end",
	"create publication p for all tables", "create recursive view v(n) as values (1)", "create schema s create table t (x int)",
	"create schema authorization x", "create server s foreign data wrapper w", "create statistics s on a, b from t",
	"create subscription s connection 'x' publication p", "create table t ()", "create table t of a.b",
	"create table t (like u including all, exclude using gist (x with =))", "create table t as execute q",
	"create temp table t on commit drop as select 1", "create text search dictionary d (template = x)",
	"create transform for int language sql (from sql with function f(internal))", "create type t", "create type t as ()",
	"create type t (input = f, output = g)", "create unlogged table t (x serial)", "create user mapping for x server s",
	"deallocate all", "declare c cursor for select 1", "delete from t using u where t.a = u.a", "discard all", "do 'x'",
	"do language plpgsql 'begin end'", "drop access method m", "drop aggregate a(*)", "drop cast (int as text)",
	"drop domain if exists d", "drop event trigger e", "drop foreign data wrapper w", "drop index concurrently a.b, c",
	"drop operator +(int, int)", "drop operator class c using btree", "drop owned by current_user", "drop policy p on t",
	"drop publication p", "drop routine r", "drop rule r on a.t", "drop server s", "drop statistics s", "drop table a.b.c",
	"drop transform for int language sql", "drop trigger if exists g on t cascade", "drop type int[]", "drop user mapping for x server s",
	"execute q(1)", "explain analyze delete from t", "grant all on all functions in schema s to x", "grant all on foreign server s to x",
	"grant all on large object 1 to x", "grant set on parameter work_mem to x", "grant usage on type t to x", "import foreign schema s from server t into u",
	"insert into t default values", "insert into t table u", "listen x", "load 'x'", "lock t", "merge into t using (select 1) s on true when matched then do nothing",
	"move 1 from c", "notify x, 'y'", "prepare q as select 1", "reassign owned by x to y", "refresh materialized view v with no data",
	"reindex database", "reindex (verbose) system", "release s", "reset session authorization", "revoke all on large object 1 from x", "revoke grant option for select (a) on t from x",
	"security label on table t is 'x'", "select", "select set_config('a')", "select a.set_config(null, null, null)", "select * into temp t from u union select 1",
	"set constraints all deferred", "set local time zone local", "set names 'x'", "set search_path = default", "set local search_path = ''", "set session authorization default",
	"set xml option document", "show all", "table t", "truncate only t restart identity", "unlisten *", "update t set (a, b) = (select 1, 2) from u where current of c", "vacuum",
	"values (1)", "with recursive r as (select 1 union all select * from r) delete from t",
}
