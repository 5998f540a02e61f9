package privacy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
)

const selectTables = `
select format('%I.%I', n.nspname, c.relname)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg_toast%'
 order by 1`

// dump is each row of each table of a database as JSON, and what the server shows
// of its sessions and roles. Columns that are the exception come as null.
func (g *ground) dump(database string, except ...string) []byte {
	g.Helper()
	cfg, err := pgx.ParseConfig(pgtest.SuperURL(g))
	g.ok(err)
	cfg.Database = database
	conn, err := pgx.ConnectConfig(g.Context(), cfg)
	g.ok(err)
	defer conn.Close(context.Background())
	rows, err := conn.Query(g.Context(), selectTables)
	g.ok(err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	g.ok(err)
	var out bytes.Buffer
	for _, table := range append(tables, "pg_stat_activity", "pg_authid", "pg_description", "pg_shdescription") {
		rows, err := conn.Query(g.Context(), `select to_jsonb(x) - coalesce($1::text[], '{}') from `+table+` x`, except)
		g.ok(err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		g.ok(err)
		fmt.Fprintf(&out, "%s: %d rows\n", table, len(lines))
		for _, line := range lines {
			out.Write(append(line, '\n'))
		}
	}
	return out.Bytes()
}

// tenantDump is a tenant's database.
func (g *ground) tenantDump(t catalog.Tenant) []byte {
	g.Helper()
	route, err := g.cat.Route(g.Context(), t.ID)
	g.ok(err)
	return g.dump(route.Config.Database)
}

// catalogDump is the catalog, without the tenants' own settings: their prompts and
// lists are what they are.
func (g *ground) catalogDump() []byte {
	g.Helper()
	cfg, err := pgx.ParseConfig(g.catalogURL)
	g.ok(err)
	return g.dump(cfg.Database, "system_prompt_override", "pii_allow", "pii_deny")
}

// serverLog is what the database server itself has logged.
func (g *ground) serverLog() []byte {
	g.Helper()
	conn, err := pgx.Connect(g.Context(), pgtest.SuperURL(g))
	g.ok(err)
	defer conn.Close(context.Background())
	var data string
	g.ok(conn.QueryRow(g.Context(), `show data_directory`).Scan(&data))
	log, err := os.ReadFile(filepath.Join(data, "..", "postgres.log"))
	g.ok(err)
	return log
}

// objects are all that the object store has, behind their keys.
func (g *ground) objects() []byte {
	g.Helper()
	var out bytes.Buffer
	for _, t := range g.tenants {
		g.ok(g.objectsOf(&out, g.store.Tenant(t.ID)))
	}
	g.ok(g.objectsOf(&out, g.store.Platform()))
	return out.Bytes()
}

func (g *ground) objectsOf(out *bytes.Buffer, o *blob.Objects) error {
	var keys []string
	err := o.List(g.Context(), "", func(found blob.Object) error {
		keys = append(keys, found.Key)
		return nil
	})
	for _, key := range keys {
		if err != nil {
			return err
		}
		var body io.ReadCloser
		if body, _, err = o.Get(g.Context(), key); err == nil {
			fmt.Fprintf(out, "\n%s\n", key)
			_, err = io.Copy(out, body)
			_ = body.Close()
		}
	}
	return err
}

// metrics are the node's.
func (g *ground) metrics() []byte {
	g.Helper()
	a := g.ask(g.Context(), http.MethodGet, g.admin+"/metrics", g.adminToken, nil)
	g.ok(a.err)
	if a.status != http.StatusOK {
		g.Fatalf("metrics: %d %s", a.status, a.body)
	}
	return []byte(a.body)
}
