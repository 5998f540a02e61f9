package replica_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freehold/migrations"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet/replica"
)

// A connection string that doesn't do is refused in words without what is in it, and
// stands in no log, even of a server that logs all statements.
func TestSecret(t *testing.T) {
	t.Parallel()
	p := newPair(t, "secret")
	ctx := t.Context()
	check(t, replica.MakeLogin(ctx, p.admin, p.name, verifier(), p.database))
	must(t, p.owner, "create publication "+p.name)
	check(t, replica.MakeSlot(ctx, p.source, p.name))
	must(t, p.target, "set log_statement = 'all'; set log_min_error_statement = 'error'; set log_min_duration_statement = 0; set log_error_verbosity = verbose")
	const wrong = "a-wrong-s3cret"
	for name, c := range map[string]struct{ info, says string }{
		"password":    {p.conninfo(wrong), `password authentication failed for user "` + p.name + `"`},
		"port":        {strings.Replace(p.conninfo(wrong), "port=", "port=1 hostaddr=127.0.0.1 options=", 1), "Connection refused"},
		"unparseable": {"host=x password=" + wrong + " " + wrong, "doesn't parse"},
	} {
		for verb, err := range map[string]error{
			"probe": replica.Probe(ctx, p.target, c.info), "subscribe": replica.Subscribe(ctx, p.target, p.name, c.info),
		} {
			if !errors.Is(err, replica.ErrUnreachable) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), wrong) {
				t.Errorf("%s with another %s: %v", verb, name, err)
			}
		}
	}
	check(t, replica.Probe(ctx, p.target, p.conninfo(password)))
	if n := ask[int](t, p.target, "select count(*) from pg_subscription where subname in ($1, 'freehold_probe')", p.name); n != 0 {
		t.Errorf("%d subscriptions were left", n)
	}
	check(t, replica.Subscribe(ctx, p.target, p.name, p.conninfo(password)))
	check(t, replica.Subscribe(ctx, p.target, p.name, p.conninfo(password)))
	must(t, p.target, "select 'the log is looked at'")

	limited := connect(t, pgtest.SecondAdminURL(t), "postgres")
	if err := replica.Probe(ctx, limited, p.conninfo(password)); !errors.Is(err, replica.ErrUnfit) {
		t.Errorf("an admin without the right: %v", err)
	}
	folder := filepath.Dir(ask[string](t, p.target, "show data_directory"))
	log, err := os.ReadFile(filepath.Join(folder, "postgres.log"))
	check(t, err)
	if text := string(log); !strings.Contains(text, "the log is looked at") {
		t.Error("the log doesn't have what it should")
	} else {
		for _, secret := range []string{wrong, password, strings.ReplaceAll(password, "'", "''"), "SCRAM-SHA"} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("the log has a secret: %s", text[max(0, at-300):at])
			}
		}
	}
	if n := ask[int](t, p.admin, "select count(*) from pg_stat_activity where query like '%' || $1 || '%' and pid <> pg_backend_pid()", "s-a-secret"); n != 0 {
		t.Error("a session shows a secret")
	}
}

func TestObstacles(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.SuperURL(t), "postgres")
	must(t, conn, "create database replica_obstacles strategy file_copy")
	admin := conn
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), "drop database replica_obstacles with (force)"); err != nil {
			t.Error(err)
		}
	})
	conn = connect(t, pgtest.SuperURL(t), "replica_obstacles")
	must(t, conn, "create schema authorization "+migrations.RoleOwner+"; set role "+migrations.RoleOwner)
	must(t, conn, `
		create table fine (id int primary key, v json); insert into fine values (1, '{}');
		create table by_index (a int not null, b int); create unique index on by_index (a); alter table by_index replica identity using index by_index_a_idx;
		create table whole (n int); alter table whole replica identity full;
		create unlogged table empty_unlogged (n int);
		create materialized view not_yet as select 1 as n with no data;
		create temp table temporary (n int)`)
	found, err := replica.Obstacles(t.Context(), conn)
	check(t, err)
	if len(found) != 0 {
		t.Errorf("found %q", found)
	}
	must(t, conn, `
		create table bare (n int);
		create table nothing (id int primary key); alter table nothing replica identity nothing;
		create table whole_json (v json); alter table whole_json replica identity full;
		create table forced (id int primary key); alter table forced enable row level security; alter table forced force row level security;
		create table fired (id int primary key);
		create function fire() returns trigger language plpgsql as $$ begin return new; end $$;
		create trigger always after insert on fired execute function fire(); alter table fired enable always trigger always;
		create unlogged table unlogged (n int); insert into unlogged values (1);
		create materialized view viewed as select 1 as n;
		select lo_create(0)`)
	must(t, conn, "reset role; create table freehold_owner.another (id int primary key)")
	want := []string{
		"table %bare has no replica identity: no primary key, or none is used",
		"table %nothing has no replica identity: no primary key, or none is used",
		"table %whole_json is its own replica identity and has a column that can't be compared: v",
		"table %forced forces row-level security on its owner",
		"table %another doesn't belong to freehold_owner",
		"trigger always of table %fired would run again for each row",
		"there are large objects",
		`table %"unlogged" is unlogged and has rows`,
		`materialized view %"viewed" would have to be refreshed`,
	}
	for i, w := range want {
		schema := "freehold_owner."
		if strings.Contains(w, `%"`) {
			schema = `"freehold_owner".`
		}
		want[i] = strings.ReplaceAll(w, "%", schema)
	}
	found, err = replica.Obstacles(t.Context(), conn)
	check(t, err)
	slices.Sort(found)
	slices.Sort(want)
	if !slices.Equal(found, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(want, "\n"))
	}
	// Its owner would be refused updates from then on.
	tables, err := replica.Tables(t.Context(), conn)
	check(t, err)
	if err := replica.Publish(t.Context(), conn, "refused", tables); !errors.Is(err, replica.ErrUnfit) {
		t.Errorf("published without replica identity: %v", err)
	}
	tables = slices.DeleteFunc(tables, func(t replica.Table) bool { return t.Key == nil })
	for range 2 { // another list, and again
		check(t, replica.Publish(t.Context(), conn, "accepted", tables))
		if n := ask[int](t, conn, "select count(*) from pg_publication_tables where pubname = 'accepted'"); n != len(tables) {
			t.Errorf("%d tables of %d are published", n, len(tables))
		}
		tables = tables[1:]
	}
}
