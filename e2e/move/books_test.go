package move_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

const selectAtWork = `
select (select count(*) from freehold.reservations) +
       (select count(*) from freehold.predictions p where p.state = 'in_progress')`

// booked is what a tenant's database has of each request: its id, and how it ended.
type booked struct{ predictions, ledger, audit, seals []string }

const (
	selectPredictions = `select concat_ws(' ', p.id, p.state) from freehold.predictions p order by p.id`
	selectLedger      = `select concat_ws(' ', l.id, l.state, l.prompt_tokens, l.completion_tokens) from freehold.usage_ledger l order by l.id`
	selectAudit       = `select concat_ws(' ', a.id, a.at, a.action, encode(a.payload_hash, 'hex')) from freehold.audit_log a order by a.id`
	selectSeals       = `select concat_ws(' ', s.n, encode(s.head, 'hex')) from freehold.audit_seals s order by s.n`
)

// bookOf reads a tenant's books.
func (g *ground) bookOf(conn *pgx.Conn) booked {
	g.Helper()
	list := func(sql string) []string {
		rows, err := conn.Query(g.Context(), sql)
		g.ok(err)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		g.ok(err)
		return all
	}
	return booked{list(selectPredictions), list(selectLedger), list(selectAudit), list(selectSeals)}
}

const selectTwice = `
select (select count(*) from freehold.predictions p where p.id = $1 and p.state = 'succeeded'),
       (select count(*) from freehold.usage_ledger l where l.id = $1 and l.state = 'succeeded'),
       (select count(*) from freehold.audit_log a where a.id = $1 and a.action = 'prediction')`

// balanced waits until nothing of a tenant is at work, and checks that its database
// has each answer once, and nothing that nobody was told.
func (g *ground) balanced(t catalog.Tenant, server string, answers []string) booked {
	g.Helper()
	conn := g.at(server, t.Database)
	g.until("nothing is at work", settleTime, func() bool { return read[int64](g, conn, selectAtWork) == 0 })
	for _, id := range answers {
		var predictions, ledger, audits int
		g.ok(conn.QueryRow(g.Context(), selectTwice, id).Scan(&predictions, &ledger, &audits))
		if predictions != 1 || ledger != 1 || audits != 1 {
			g.Errorf("%s, answer %s: %d predictions, %d ledger rows, %d audit rows", t.Slug, id, predictions, ledger, audits)
		}
	}
	b := g.bookOf(conn)
	if len(b.predictions) != len(answers) || len(b.ledger) != len(answers) {
		g.Errorf("%s: %d answers, %d predictions, %d ledger rows", t.Slug, len(answers), len(b.predictions), len(b.ledger))
	}
	return b
}

// leftBehind checks the databases that a tenant has left: nobody can connect to one,
// and it has nothing that the tenant's own doesn't have.
func (g *ground) leftBehind(t catalog.Tenant, want int, now booked) {
	g.Helper()
	list, err := g.cat.KeptDatabases(g.Context(), catalog.KeptFilter{Tenant: t.ID})
	g.ok(err)
	if len(list) != want {
		g.Errorf("%s: %d databases are kept, want %d", t.Slug, len(list), want)
	}
	for _, k := range list {
		super := g.at(k.Server, "postgres")
		if read[bool](g, super, "select datallowconn from pg_database where datname = $1", k.Database) {
			g.Errorf("%s on %s lets people in", k.Database, k.Server)
		}
		conn := g.look(k.Server, k.Database)
		was := g.bookOf(conn)
		if len(was.predictions) == 0 || len(was.ledger) == 0 {
			g.Errorf("%s on %s is empty", k.Database, k.Server)
		}
		g.within(fmt.Sprintf("ledger of %s on %s", k.Database, k.Server), was.ledger, now.ledger)
		g.within(fmt.Sprintf("audit of %s on %s", k.Database, k.Server), was.audit, now.audit)
		g.within(fmt.Sprintf("seals of %s on %s", k.Database, k.Server), was.seals, now.seals)
		if last := read[time.Time](g, conn, "select max(created_at) from freehold.predictions"); last.After(k.CreatedAt) {
			g.Errorf("%s on %s was written at %s, and left at %s", k.Database, k.Server, last, k.CreatedAt)
		}
	}
}

// look connects to a kept database as the superuser, whom it lets in for a moment.
func (g *ground) look(server, database string) *pgx.Conn {
	g.Helper()
	super, name := g.at(server, "postgres"), pgx.Identifier{database}.Sanitize()
	_, err := super.Exec(g.Context(), "alter database "+name+" with allow_connections true")
	g.ok(err)
	conn := g.at(server, database)
	_, err = super.Exec(g.Context(), "alter database "+name+" with allow_connections false")
	g.ok(err)
	return conn
}

// within fails for what is in a list and not in the whole.
func (g *ground) within(what string, list, whole []string) {
	g.Helper()
	sorted := slices.Clone(whole)
	slices.Sort(sorted)
	for _, one := range list {
		if _, found := slices.BinarySearch(sorted, one); !found {
			g.Errorf("%s has %q, which the tenant's own database doesn't have", what, one)
			return
		}
	}
}
