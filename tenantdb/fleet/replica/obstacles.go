package replica

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/migrations"
)

// mayHold are tables that are an obstacle when they have rows.
const mayHold = `
select n.nspname::text, c.relname::text,
       case when c.relkind = 'm' then 'materialized view %s would have to be refreshed'
            when c.relpersistence = 'u' then 'table %s is unlogged and has rows'
            else 'table %s belongs to an extension and has rows' end
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
   and (c.relkind = 'm' and c.relispopulated
        or c.relkind = 'r' and c.relpersistence = 'u'
        or c.relkind = 'r' and c.relpersistence = 'p'
           and exists (select from pg_extension e where c.oid = any (e.extconfig)))
 order by 1, 2`

// Types that have no equality: a row that is its own identity isn't found by them.
const incomparable = `
       '{json,xml,point,line,lseg,box,path,polygon,circle,_json,_xml,_point,_line,_lseg,_box,_path,_polygon,_circle}'::regtype[]`

const selectObstacles = `
with own as (
    select c.oid, c.relowner, c.relreplident, c.relforcerowsecurity and c.relrowsecurity as forced,
           format('%I.%I', n.nspname, c.relname) as name
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
     where ` + ownTables + `)
select 'table ' || o.name || ' has no replica identity: no primary key, or none is used'
  from own o
 where o.relreplident <> 'f'
   and not exists (select from pg_index i where i.indrelid = o.oid and i.indisvalid
                      and case o.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end)
 union all
select 'table ' || o.name || ' is its own replica identity and has a column that can''t be compared: ' || a.attname
  from own o
  join pg_attribute a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
 where o.relreplident = 'f' and a.atttypid = any (` + incomparable + `)
 union all
select 'table ' || o.name || ' forces row-level security on its owner'
  from own o
 where o.forced
 union all
select 'table ' || o.name || ' doesn''t belong to ` + migrations.RoleOwner + `'
  from own o
 where not pg_has_role('` + migrations.RoleOwner + `', o.relowner, 'USAGE')
 union all
select 'trigger ' || quote_ident(g.tgname) || ' of table ' || o.name || ' would run again for each row'
  from own o
  join pg_trigger g on g.tgrelid = o.oid and not g.tgisinternal and g.tgenabled in ('A', 'R')
 union all
select 'there are large objects'
 where exists (select from pg_largeobject_metadata)
 union all
select 'a prepared transaction is open'
 where exists (select from pg_prepared_xacts x where x.database = current_database())
 order by 1`

// Obstacles are sentences: what the database holds that logical replication doesn't
// carry, or what would end one. None: it can be replicated. The role freehold_owner
// has to be there.
func Obstacles(ctx context.Context, q Querier) ([]string, error) {
	rows, _ := q.Query(ctx, selectObstacles)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for obstacles: %w", err)
	}
	type relation struct{ schema, name, words string }
	rows, _ = q.Query(ctx, mayHold)
	relations, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r relation, err error) {
		return r, row.Scan(&r.schema, &r.name, &r.words)
	})
	if err != nil {
		return nil, fmt.Errorf("look for obstacles: %w", err)
	}
	for _, r := range relations {
		name := pgx.Identifier{r.schema, r.name}.Sanitize()
		var holds bool
		if err := q.QueryRow(ctx, "select exists (select from only "+name+")").Scan(&holds); err != nil {
			return nil, fmt.Errorf("look for obstacles: %w", err)
		}
		if holds {
			found = append(found, fmt.Sprintf(r.words, name))
		}
	}
	return found, nil
}
