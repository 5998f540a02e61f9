package replica_test

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/migrations"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet/replica"
)

func TestMain(m *testing.M) { pgtest.MainLeak(m) }

const schema = `
create schema app;
create table app.item (
    id bigint generated always as identity primary key, n integer not null, twice integer generated always as (n * 2) stored,
    data bytea, doc json, docs jsonb, f double precision, d numeric, at timestamptz, tags text[], t text);
create table app.pair (a uuid, b text, v text, t integer, primary key (b, a));
create table app.log (id bigint, v text, primary key (id)) partition by range (id);
create table app.log_low partition of app.log for values from (0) to (100);
create table app.log_high partition of app.log for values from (100) to (1000000);
create table app."Quoted t" ("Key k" text primary key, t text);
create table app.bare (n integer);
alter table app.bare replica identity full;
create sequence app.ticket;`

const fill = `
insert into app.item (n, data, doc, docs, f, d, at, tags, t)
select i, decode(md5(i::text), 'hex'), '{"b": 1,  "a":2}', '{"b": 1, "a": 2}', i / 3.0, i / 7.0::numeric, now(),
       array['a b', null, '"'], repeat('x', i) from generate_series(1, 500) i;
insert into app.pair select gen_random_uuid(), 'b' || i, null, i from generate_series(1, 300) i;
insert into app.log select i, 'v' from generate_series(1, 300) i;
insert into app."Quoted t" values ('k''1', 'v'), ('', 'empty');
insert into app.bare select i from generate_series(1, 10) i;
select setval('app.ticket', 77);`

// pair is a source on the first server and a target on the second, with the same schema.
type pair struct {
	name           string
	source, target *pgx.Conn // the superusers', settled
	owner          *pgx.Conn // freehold_owner, in the source
	admin          *pgx.Conn // the superuser, in database postgres of the source's server
	database       string
}

func connect(t *testing.T, address, database string) *pgx.Conn {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + database
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// must runs statements, several if they are separated by semicolons.
func must(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func ask[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newPair makes the databases; both go after the test, with what replicates them.
func newPair(t *testing.T, name string) *pair {
	t.Helper()
	p := &pair{name: "freehold_move_" + name, database: "replica_" + name}
	p.admin = connect(t, pgtest.SuperURL(t), "postgres")
	there := connect(t, pgtest.SecondSuperURL(t), "postgres")
	for _, conn := range []*pgx.Conn{p.admin, there} {
		must(t, conn, "create database "+p.database+" owner "+migrations.RoleOwner+" strategy file_copy")
		must(t, conn, "revoke all on database "+p.database+" from public")
		t.Cleanup(func() {
			if _, err := conn.Exec(context.Background(), "drop database if exists "+p.database+" with (force)"); err != nil {
				t.Error(err)
			}
		})
	}
	p.source = connect(t, pgtest.SuperURL(t), p.database)
	p.target = connect(t, pgtest.SecondSuperURL(t), p.database)
	p.owner = connect(t, pgtest.AdminURL(t), p.database)
	must(t, p.owner, "set role "+migrations.RoleOwner)
	for _, conn := range []*pgx.Conn{p.source, p.target} {
		check(t, replica.Settle(t.Context(), conn))
		must(t, conn, "set role "+migrations.RoleOwner)
		must(t, conn, schema)
		must(t, conn, "reset role")
	}
	t.Cleanup(func() { p.end(t) })
	return p
}

// end takes everything back. It may run twice.
func (p *pair) end(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, err := range []error{
		replica.Unsubscribe(ctx, p.target, p.name),
		replica.DropSlots(ctx, p.admin, p.name, p.database),
		replica.DropLogin(ctx, p.admin, p.name),
		replica.Unpublish(ctx, p.owner, p.name),
	} {
		if err != nil {
			t.Error(err)
		}
	}
}

const password = "it's-a-secret"

// verifier is what Postgres keeps of the password (RFC 5803).
func verifier() string {
	salt := []byte("0123456789abcdef")
	salted, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
	if err != nil {
		panic(err)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$1:%s$%s:%s", text(salt), text(stored[:]), text(mac(salted, "Server Key")))
}

func (p *pair) conninfo(secret string) string {
	cfg := p.source.Config()
	quoted := strings.ReplaceAll(secret, "'", `\'`)
	return fmt.Sprintf("host=%s port=%d dbname=%s user=%s password='%s' connect_timeout=5 sslmode=disable",
		cfg.Host, cfg.Port, p.database, p.name, quoted)
}

// tables are those that are published.
func (p *pair) tables(t *testing.T) []replica.Table {
	t.Helper()
	tables, err := replica.Tables(t.Context(), p.owner)
	check(t, err)
	return slices.DeleteFunc(tables, replica.IsIdentity)
}

// begin has the target follow.
func (p *pair) begin(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	check(t, replica.Publish(ctx, p.owner, p.name, p.tables(t)))
	check(t, replica.MakeSlot(ctx, p.source, p.name))
	check(t, replica.MakeLogin(ctx, p.admin, p.name, verifier(), p.database))
	check(t, replica.Subscribe(ctx, p.target, p.name, p.conninfo(password)))
}

// catchUp waits for all that has committed, and tells how long that took.
func (p *pair) catchUp(t *testing.T) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	lsn, err := replica.FlushLSN(ctx, p.source)
	check(t, err)
	check(t, replica.CaughtUp(ctx, p.source, p.target, p.name, lsn))
	return time.Since(began)
}
