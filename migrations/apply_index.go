package migrations

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A migration without a transaction that fails half-way leaves what it had done,
// and an index that was being built concurrently stays, invalid. "if not exists"
// then finds it there and is content. So what is left is dropped before the
// migration is tried again, and the indexes are looked at before it is recorded.

// concurrent are the indexes that m builds concurrently. They are nil when m runs in
// a transaction, where none can be left invalid.
func (r *run) concurrent(m numbered) ([]build, error) {
	body, err := r.set.read(m.name)
	if err != nil || !mayLackTx(body) {
		return nil, err
	}
	sql, err := parseScript(m.name, body)
	if err != nil || !sql.noTx {
		return nil, err
	}
	builds := []build{}
	for _, statement := range sql.up {
		if b, ok := concurrentBuild(statement); ok {
			builds = append(builds, b)
		}
	}
	return builds, nil
}

// index is an index that isn't valid.
type index struct {
	OID     uint32 `db:"oid"`
	Schema  string // the table's too
	Name    string
	Table   string
	Visible bool // its table, without the schema's name
}

func (i index) quoted() string { return pgx.Identifier{i.Schema, i.Name}.Sanitize() }

// Those of partitioned tables aren't valid until each partition has one, which may be
// the next migration's work. One that another session is building will be.
const selectInvalid = `
select i.indexrelid as oid, n.nspname as schema, c.relname as name, t.relname as "table",
       pg_table_is_visible(t.oid) as visible
  from pg_index i
  join pg_class c on c.oid = i.indexrelid and c.relkind = 'i'
  join pg_class t on t.oid = i.indrelid
  join pg_namespace n on n.oid = c.relnamespace
 where not i.indisvalid
   and not exists (select from pg_stat_progress_create_index p
                    where p.index_relid = i.indexrelid and p.pid <> pg_backend_pid())
 order by n.nspname, c.relname`

func (r *run) invalid(ctx context.Context) ([]index, error) {
	rows, err := r.conn.Query(ctx, selectInvalid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[index])
}

// sweep drops what an earlier try left of builds, and returns the OIDs of the other
// invalid indexes, which are none of the migration's business.
func (r *run) sweep(ctx context.Context, builds []build) (known []uint32, err error) {
	found, err := r.invalid(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range found {
		if !slices.ContainsFunc(builds, func(b build) bool { return b.is(i) && (b.schema != "" || i.Visible) }) {
			known = append(known, i.OID)
			continue
		}
		if _, err := r.conn.Exec(ctx, "drop index concurrently if exists "+i.quoted()); err != nil {
			return nil, fmt.Errorf("drop index %s, left by an earlier try: %w", i.quoted(), err)
		}
	}
	return known, nil
}

// allValid is ErrInvalidIndex when an index of builds isn't valid, or any that wasn't
// known before.
func (r *run) allValid(ctx context.Context, builds []build, known []uint32) error {
	found, err := r.invalid(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, i := range found {
		if !slices.Contains(known, i.OID) || slices.ContainsFunc(builds, func(b build) bool { return b.is(i) }) {
			names = append(names, i.quoted())
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrInvalidIndex, strings.Join(names, ", "))
}
