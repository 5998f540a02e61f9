package fleet

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A fingerprint is a hash of all that people made in a database: schemas, tables,
// columns, constraints, indexes, views, sequences, functions (their bodies by hash),
// triggers, rules, policies, types and extensions, with owners and grants. Nothing in
// it depends on the order in which they were made: a clone, a database that was
// migrated step by step, and one that was migrated from zero have the same.
//
// Left out are rows, comments, statistics, event triggers, the tables of versions, what
// belongs to an extension, and which partitions a table has by range: those depend on
// the date. Of such a partition is told only that somebody gave it an owner or grants
// of its own; that its columns are its parent's Postgres sees to.

// sessionOfLook has definitions come in one form, whatever database or role have set.
const sessionOfLook = `
select set_config('search_path', 'pg_catalog', true), set_config('timezone', 'UTC', true),
       set_config('datestyle', 'ISO', true), set_config('intervalstyle', 'postgres', true),
       set_config('bytea_output', 'hex', true), set_config('quote_all_identifiers', 'off', true),
       set_config('jit', 'off', true), set_config('transaction_read_only', 'on', true)`

// withLines are the things of a database: kind, name, and definition in parts, divided
// by chr(31). It is asked on connections that were made for it, so that planning and
// cold caches are its cost: hence scans of single catalogs by oid (initdb's own are below
// 16384), no joins, and no more calls of pg_get_* than there must be.
const withLines = `
with recursive members as materialized (
    select classid, objid from pg_depend where refclassid = 'pg_extension'::regclass and deptype = 'e'
), dated as (
    select i.inhrelid as oid
      from pg_partitioned_table p join pg_inherits i on i.inhparent = p.partrelid
     where p.partstrat = 'r' and i.inhrelid <> p.partdefid
    union
    select i.inhrelid from dated d join pg_inherits i on i.inhparent = d.oid
), rels as materialized (
    select c.oid, c.relkind, c.oid::regclass::text as name, c.relowner, c.relacl, c.relpersistence,
           c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relispartition, c.relpartbound
      from pg_class c
     where c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c') and c.relpersistence <> 't'
       and c.oid <> all (array(select oid from dated))
       and c.oid <> all (array(select objid from members where classid = 'pg_class'::regclass))
       and not (c.relname in ('schema_version', 'schema_version_id_seq')
                and c.relnamespace in (to_regnamespace('freehold'), to_regnamespace('product')))
), ids as materialized (
    select array(select oid from rels) as rels,
           array(select objid from members where classid = 'pg_proc'::regclass) as foreign_procs,
           array(select objid from members where classid = 'pg_type'::regclass) as foreign_types
), lines (kind, name, def) as (
    select 'schema', oid::regnamespace::text, concat_ws(chr(31), 'owner ' || nspowner::regrole::text, 'grants ' ||
           (select string_agg(g::text, ' ' order by g::text collate "C")
              from unnest(coalesce(nspacl, acldefault('n', nspowner))) g))
      from pg_namespace
     where (oid >= 16384 or nspname = 'public') and nspname !~ '^pg_' and nspname <> 'information_schema'
       and not (nspname = 'product' and nspacl is null)
    union all
    select case relkind when 'S' then 'sequence' when 'v' then 'view' when 'm' then 'view' when 'c' then 'type' else 'table' end,
           name, concat_ws(chr(31),
           case relkind when 'p' then 'partition by ' || pg_get_partkeydef(oid)
                        when 'v' then 'as ' || pg_get_viewdef(oid)
                        when 'm' then 'materialized as ' || pg_get_viewdef(oid)
                        when 'f' then 'foreign'
                        when 'c' then 'composite'
                        when 'S' then (select concat_ws(' ', format_type(s.seqtypid, null), 'start', s.seqstart,
                                              'increment', s.seqincrement, 'from', s.seqmin, 'to', s.seqmax,
                                              'cache', s.seqcache, case when s.seqcycle then 'cycle' end)
                                         from pg_sequence s where s.seqrelid = rels.oid) end,
           case when relispartition then 'partition ' || pg_get_expr(relpartbound, oid) end,
           case relpersistence when 'u' then 'unlogged' end,
           case when relrowsecurity then 'row level security' end,
           case when relforcerowsecurity then 'row level security forced' end,
           'with (' || array_to_string(reloptions, ', ') || ')',
           'owner ' || relowner::regrole::text, 'grants ' ||
           (select string_agg(g::text, ' ' order by g::text collate "C")
              from unnest(coalesce(relacl, acldefault(case relkind when 'S' then 's'::"char" else 'r' end, relowner))) g))
      from rels
    union all
    select 'partition', oid::regclass::text, concat_ws(chr(31), case relpersistence when 'u' then 'unlogged' end,
           case when relrowsecurity then 'row level security' end, 'owner ' || relowner::regrole::text,
           'grants ' || (select string_agg(g::text, ' ' order by g::text collate "C") from unnest(relacl) g))
      from pg_class
     where oid = any (array(select oid from dated))
       and (relacl is not null or relrowsecurity or relpersistence <> 'p' or relowner <> to_regrole('freehold_owner'))
    union all
    select 'column', attrelid::regclass::text || '.' || quote_ident(attname), concat_ws(chr(31),
           format_type(atttypid, atttypmod),
           case when attcollation not in (0, 100, 950) then 'collate ' || attcollation::regcollation::text end,
           case when attnotnull then 'not null' end,
           case attidentity when 'a' then 'generated always as identity' when 'd' then 'generated by default as identity' end,
           case attgenerated when '' then 'default ' when 's' then 'stored as ' else 'virtual as ' end
             || case when atthasdef then (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d
                                           where d.adrelid = attrelid and d.adnum = attnum) end,
           case when attcompression <> '' then 'compression ' || attcompression::text end,
           'grants ' || (select string_agg(g::text, ' ' order by g::text collate "C") from unnest(attacl) g))
      from pg_attribute
     where attrelid = any ((select rels from ids)::oid[]) and attnum > 0 and not attisdropped
    union all
    select 'constraint', coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text) || '.' || quote_ident(conname),
           case when contype in ('p', 'u') then concat_ws(chr(31), case contype when 'p' then 'primary key' else 'unique' end,
                     case when condeferrable then 'deferrable' end, case when condeferred then 'initially deferred' end)
                else pg_get_constraintdef(oid) end
      from pg_constraint
     where oid >= 16384 and contype not in ('n', 't') and conparentid = 0
       and (conrelid = any ((select rels from ids)::oid[])
            or conrelid = 0 and contypid <> all ((select foreign_types from ids)::oid[]))
    union all
    select 'index', indexrelid::regclass::text, concat_ws(chr(31), pg_get_indexdef(indexrelid),
           case when indisreplident then 'replica identity' end, case when indisclustered then 'cluster' end)
      from pg_index where indrelid = any ((select rels from ids)::oid[])
    union all
    select 'invalid', indexrelid::regclass::text, ''
      from pg_index where indexrelid >= 16384 and not indisvalid
    union all
    select 'function', oid::regprocedure::text, concat_ws(chr(31),
           'arguments (' || pg_get_function_arguments(oid) || ')',
           case when prorettype <> 0 then 'returns ' || case when proretset then 'setof ' else '' end || format_type(prorettype, null) end,
           'language ' || (select lanname from pg_language l where l.oid = prolang),
           case prokind when 'a' then 'aggregate' when 'p' then 'procedure' when 'w' then 'window' end,
           case provolatile when 'i' then 'immutable' when 's' then 'stable' end,
           case proparallel when 's' then 'parallel safe' when 'r' then 'parallel restricted' end,
           case when prosecdef then 'security definer' end, case when proleakproof then 'leakproof' end,
           case when proisstrict then 'strict' end, 'set ' || array_to_string(proconfig, ', '),
           'cost ' || procost, 'rows ' || nullif(prorows, 0),
           'body ' || left(encode(sha256(convert_to(coalesce(pg_get_function_sqlbody(oid), prosrc), 'UTF8')), 'hex'), 16),
           'owner ' || proowner::regrole::text, 'grants ' ||
           (select string_agg(g::text, ' ' order by g::text collate "C")
              from unnest(coalesce(proacl, acldefault('f', proowner))) g))
      from pg_proc where oid >= 16384 and oid <> all ((select foreign_procs from ids)::oid[])
    union all
    select 'trigger', tgrelid::regclass::text || '.' || quote_ident(tgname), concat_ws(chr(31), pg_get_triggerdef(oid),
           case tgenabled when 'D' then 'disabled' when 'R' then 'on replicas' when 'A' then 'always' end)
      from pg_trigger
     where not tgisinternal and tgparentid = 0 and tgrelid = any ((select rels from ids)::oid[])
    union all
    select 'rule', ev_class::regclass::text || '.' || quote_ident(rulename), concat_ws(chr(31), pg_get_ruledef(oid),
           case ev_enabled when 'D' then 'disabled' when 'R' then 'on replicas' when 'A' then 'always' end)
      from pg_rewrite
     where oid >= 16384 and rulename <> '_RETURN' and ev_class = any ((select rels from ids)::oid[])
    union all
    select 'policy', polrelid::regclass::text || '.' || quote_ident(polname), concat_ws(chr(31),
           case when polpermissive then 'permissive' else 'restrictive' end,
           case polcmd when 'r' then 'for select' when 'a' then 'for insert' when 'w' then 'for update' when 'd' then 'for delete' end,
           'to ' || (select string_agg(n, ', ' order by n collate "C")
                       from unnest(polroles) r, lateral (select case r when 0 then 'public' else r::regrole::text end) as named (n)),
           'using (' || pg_get_expr(polqual, polrelid) || ')',
           'with check (' || pg_get_expr(polwithcheck, polrelid) || ')')
      from pg_policy where polrelid = any ((select rels from ids)::oid[])
    union all
    select 'type', oid::regtype::text, concat_ws(chr(31),
           case typtype when 'e' then 'enum ' || (select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder)
                                                    from pg_enum where enumtypid = t.oid)
                        when 'd' then 'domain over ' || format_type(typbasetype, typtypmod)
                        else 'range of ' || (select format_type(rngsubtype, null) from pg_range where rngtypid = t.oid) end,
           case when typnotnull then 'not null' end, 'default ' || typdefault,
           'owner ' || typowner::regrole::text, 'grants ' ||
           (select string_agg(g::text, ' ' order by g::text collate "C")
              from unnest(coalesce(typacl, acldefault('T', typowner))) g))
      from pg_type t
     where oid >= 16384 and typtype in ('d', 'e', 'r') and oid <> all ((select foreign_types from ids)::oid[])
    union all
    select 'extension', quote_ident(extname), 'version ' || extversion || ' in ' || extnamespace::regnamespace::text
      from pg_extension
    union all
    select 'default grants', concat_ws(' ', 'of', defaclrole::regrole::text, 'in ' || nullif(defaclnamespace, 0)::regnamespace::text,
           'on', case defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                                    when 'T' then 'types' when 'n' then 'schemas' else defaclobjtype::text end),
           (select string_agg(g::text, ' ' order by g::text collate "C") from unnest(defaclacl) g)
      from pg_default_acl
)`

// The hash is made there, so that a database which is as it should be sends no more.
const selectFingerprint = withLines + `
select sha256(convert_to(coalesce(string_agg(concat(kind, chr(30), name, chr(30), def), chr(10)
              order by kind collate "C", name collate "C", def collate "C"), ''), 'UTF8')),
       current_setting('server_version_num')::integer
  from lines`

// Fingerprint is a hash of what people made in the database that conn is connected to,
// and the server's version number. It reads only, in one round trip where conn's mode is
// pgx.QueryExecModeExec.
func Fingerprint(ctx context.Context, conn *pgx.Conn) (sum []byte, version int, err error) {
	var batch pgx.Batch
	batch.Queue(sessionOfLook)
	batch.Queue(selectFingerprint).QueryRow(func(row pgx.Row) error { return row.Scan(&sum, &version) })
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, 0, fmt.Errorf("take fingerprint: %w", translate(ctx, err))
	}
	return sum, version, nil
}

// object is a thing of a database.
type object struct {
	Kind  string   `json:"kind"`
	Name  string   `json:"name"`
	Parts []string `json:"parts"` // of its definition
}

// kindInvalid is of an index that isn't valid, beside its own object.
const kindInvalid = "invalid"

func (o object) String() string { return o.Kind + " " + o.Name }

// shape is what a fingerprint is the hash of.
type shape struct {
	sum     []byte
	objects []object
}

const (
	selectLines = withLines + `
select kind, name, coalesce(def, '')
  from lines order by kind collate "C", name collate "C", def collate "C"`

	// What a session builds concurrently isn't valid until it is done.
	selectBuilding = `
select index_relid::regclass::text from pg_stat_progress_create_index
 where datname = current_database() and index_relid <> 0`
)

// look reads the shape of the database that conn is connected to, without the indexes
// that somebody is building concurrently: nobody knows yet what becomes of them.
func look(ctx context.Context, conn *pgx.Conn) (s shape, err error) {
	var building []string
	var lines [][3]string
	var batch pgx.Batch
	batch.Queue(sessionOfLook)
	batch.Queue(selectBuilding).Query(func(rows pgx.Rows) (err error) {
		building, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	batch.Queue(selectLines).Query(func(rows pgx.Rows) error {
		var l [3]string
		_, err := pgx.ForEachRow(rows, []any{&l[0], &l[1], &l[2]}, func() error {
			lines = append(lines, l)
			return nil
		})
		return err
	})
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return s, fmt.Errorf("read schema: %w", translate(ctx, err))
	}
	skip := map[string]bool{}
	for _, name := range building {
		skip[name] = true
	}
	h := sha256.New()
	for _, l := range lines {
		if skip[l[1]] && (l[0] == kindInvalid || l[0] == "index") {
			continue
		}
		if len(s.objects) > 0 {
			h.Write([]byte("\n"))
		}
		fmt.Fprint(h, l[0], "\x1e", l[1], "\x1e", l[2])
		s.objects = append(s.objects, object{l[0], l[1], strings.FieldsFunc(l[2], func(r rune) bool { return r == '\x1f' })})
	}
	s.sum = h.Sum(nil)
	return s, nil
}
