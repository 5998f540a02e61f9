package archive

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// own are Freehold's tables that are the tenant's to take along, those first that
// others refer to.
var own = []string{
	"predictions", "usage_ledger", "audit_log", "audit_seals", "files",
	"fine_tuning_jobs", "fine_tuning_events", "fine_tuning_checkpoints", "models",
}

// kept are Freehold's tables that stay, and why.
var kept = map[string]string{
	"tenant_identity":  "the platform's own mark of the database",
	"reservations":     "requests that were under way",
	"tenant_counters":  "the platform's own counters: what was used is in usage_ledger",
	"idempotency_keys": "answers that were kept for a day to be given again, sealed",
	"schema_version":   "the platform's own version of its tables",
}

const (
	freehold   = "freehold"
	whyUnknown = "a table of the platform's own"
)

// exactness says how a column's value goes into a row's JSON, and whether that may
// not be all there is to it.
type exactness string

const (
	exactAlways exactness = ""      // JSON says all
	exactJSON   exactness = "json"  // but for what is no object or array, and some white space
	exactArray  exactness = "array" // but for indexes that don't begin at 1
	exactNever  exactness = "never" // the value is given as text besides
	exactText   exactness = "text"  // it is given as text alone: its own way into JSON is another
)

// What bears Postgres's own names, or an extension's, is no tenant's. A partition is a
// part of its table.
const selectTables = `
select n.nspname as schema, c.relname as name, c.relkind = 'p' as parted, c.relkind::text as kind,
       exists (select from pg_depend d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') as of_extension
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'm', 'f') and not c.relispartition and c.relpersistence <> 't'
   and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
 order by 1, 2`

type relation struct {
	Schema, Name string
	Parted       bool
	Kind         string
	OfExtension  bool
}

// relations lists the tables to be taken along, Freehold's first, and those that stay.
func relations(ctx context.Context, q querier) (list []Table, stay []LeftOut, err error) {
	rows, err := q.Query(ctx, selectTables)
	if err != nil {
		return nil, nil, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[relation])
	if err != nil {
		return nil, nil, err
	}
	for _, r := range all {
		t := Table{Schema: r.Schema, Name: r.Name, parted: r.Parted}
		if why := r.stays(); why != "" {
			stay = append(stay, LeftOut{t.String(), why})
			continue
		}
		list = append(list, t)
	}
	rank := func(t Table) int {
		if t.Schema != freehold {
			return len(own)
		}
		return slices.Index(own, t.Name)
	}
	slices.SortStableFunc(list, func(a, b Table) int { return rank(a) - rank(b) })
	return list, stay, nil
}

// stays says why a relation's rows stay; empty: they don't.
func (r relation) stays() string {
	switch {
	case r.OfExtension:
		return "an extension's own"
	case r.Kind == "m":
		return "a view's rows, which are made anew from other tables'"
	case r.Kind == "f":
		return "rows of another server"
	case r.Schema != freehold || slices.Contains(own, r.Name):
		return ""
	case kept[r.Name] != "":
		return kept[r.Name]
	default:
		return whyUnknown
	}
}

// Types that aren't Postgres's own may have a way into JSON that leads nowhere back,
// as hstore has. Of a domain of a domain nothing is assumed.
const selectColumns = `
with columns as (
    select a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attgenerated <> '' as generated,
           case when t.typtype = 'd' then t.typbasetype else t.oid end as base
      from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
), own_json as (
    select castsource as type from pg_cast
     where casttarget in ('json'::regtype, 'jsonb'::regtype) and castsource >= 16384
)
select c.attname as name, c.type, c.generated,
       case when b.oid in (select o.type from own_json o) then 'text'
            when b.oid in ('json'::regtype, 'jsonb'::regtype) then 'json'
            when b.typcategory = 'A' and e.typtype in ('b', 'e', 'r') and e.oid not in ('json'::regtype, 'jsonb'::regtype)
                 and e.oid not in (select o.type from own_json o) then 'array'
            when b.typcategory = 'A' or b.typtype in ('c', 'd') then 'never'
            else '' end as exact
  from columns c join pg_type b on b.oid = c.base left join pg_type e on e.oid = b.typelem
 order by c.attnum`

func columns(ctx context.Context, q querier, t Table) ([]Column, error) {
	rows, err := q.Query(ctx, selectColumns, t.ident())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Column, err error) {
		var exact string
		err = row.Scan(&c.Name, &c.Type, &c.Generated, &exact)
		c.exact = exactness(exact)
		return c, err
	})
}

// asWritten is the member of a row that has values again as Postgres writes them.
const asWritten = "freehold:as_written"

// row is the alias of a row as it goes into JSON: no column is called so.
const rowAlias = `"freehold row"`

// query selects a table's rows: each as JSON, and as JSON too the values that it
// doesn't say exactly, or null. Both may hold line breaks between tokens.
func (t Table) query() string {
	var list, names, texts []string
	for _, c := range t.Columns {
		name := pgx.Identifier{c.Name}.Sanitize()
		if c.exact == exactText {
			list = append(list, "t."+name+"::text as "+name)
			continue
		}
		list = append(list, "t."+name)
		if inexact := c.inexact(rowAlias + "." + name); inexact != "" {
			names = append(names, literal(c.Name))
			texts = append(texts, "case when "+inexact+" then "+rowAlias+"."+name+"::text end")
		}
	}
	exact := "null::text"
	if names != nil {
		exact = "nullif(json_strip_nulls(json_object(array[" + strings.Join(names, ", ") + "], array[" +
			strings.Join(texts, ", ") + "]))::text, '{}')"
	}
	only := "only "
	if t.parted {
		only = ""
	}
	return "select row_to_json(" + rowAlias + ")::text, " + exact +
		"\n  from (select " + strings.Join(list, ", ") + " from " + only + t.ident() + " t) " + rowAlias
}

// inexact is the condition under which JSON doesn't say all of a value; empty: never.
func (c Column) inexact(value string) string {
	switch c.exact {
	case exactJSON:
		return `(` + value + `::text !~ '^[[{].*[]}]$' or ` + value + `::text ~ E'[\n\r]')`
	case exactArray:
		return `array_dims(` + value + `) !~ '^(\[1:[0-9]+\])+$'`
	case exactNever:
		return value + `::text is not null`
	default:
		return ""
	}
}

// literal is text as an SQL string, whatever standard_conforming_strings says.
func literal(text string) string {
	return ` E'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + `'`
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const (
	selectSequences = `
select s.schemaname as schema, s.sequencename as name, s.last_value as last
  from pg_sequences s
 where s.last_value is not null and s.schemaname <> 'freehold' and s.schemaname !~ '^pg_' order by 1, 2`

	countLargeObjects = `select count(*) from pg_largeobject_metadata`
)

func sequences(ctx context.Context, q querier) ([]Sequence, error) {
	rows, err := q.Query(ctx, selectSequences)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Sequence])
}
