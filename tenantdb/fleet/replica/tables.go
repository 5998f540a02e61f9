package replica

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Querier is a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Table is one with rows of its own: an ordinary table, or a partition that isn't
// divided further.
type Table struct {
	Schema string   `json:"schema"`
	Name   string   `json:"name"`
	Key    []string `json:"key,omitempty"`   // columns of its replica identity, in the table's order; nil: it has none, or Full
	Types  []string `json:"types,omitempty"` // of Key's columns, quoted
	Full   bool     `json:"full,omitempty"`  // its identity is the whole row
	Bytes  int64    `json:"bytes"`           // with indexes and what lies out of line, when it was looked at
}

// String is the table's name in SQL: quoted, with its schema.
func (t Table) String() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// IsIdentity tells Freehold's own row of whose database it is. Who makes the target
// may have written it there already, and leaves it out then.
func IsIdentity(t Table) bool { return t.Schema == "freehold" && t.Name == "tenant_identity" }

// ownTables is what counts as a table here: not the system's, not one of an extension,
// whose rows come with that. c is pg_class, n pg_namespace.
const ownTables = `
   c.relkind = 'r' and c.relpersistence = 'p'
   and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname !~ '^pg_temp_'
   and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')`

const selectTables = `
select n.nspname::text, c.relname::text, c.relreplident = 'f', pg_total_relation_size(c.oid), k.names, k.types
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_index i on i.indrelid = c.oid and i.indisvalid
       and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end
  left join lateral (
       select array_agg(a.attname::text order by a.attnum) as names,
              array_agg(quote_ident(tn.nspname) || '.' || quote_ident(ty.typname) order by a.attnum) as types
         from unnest(i.indkey::int2[]) with ordinality as u (att, place)
         join pg_attribute a on a.attrelid = c.oid and a.attnum = u.att
         join pg_type ty on ty.oid = a.atttypid
         join pg_namespace tn on tn.oid = ty.typnamespace
        where u.place <= i.indnkeyatts) k on true
 where ` + ownTables + `
 order by n.nspname, c.relname`

// Tables are all permanent tables with rows of their own that the database has besides
// the system's and its extensions', by name.
func Tables(ctx context.Context, q Querier) ([]Table, error) {
	rows, _ := q.Query(ctx, selectTables)
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Table, err error) {
		return t, row.Scan(&t.Schema, &t.Name, &t.Full, &t.Bytes, &t.Key, &t.Types)
	})
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return tables, nil
}
