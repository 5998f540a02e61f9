package fleet

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
)

// RebuiltIndex is what became of an index that wasn't valid.
type RebuiltIndex struct {
	Tenant string `json:"tenant"`
	Index  string `json:"index"`
	Done   string `json:"done,omitempty"`   // "rebuilt", or "dropped": an earlier rebuild had left it
	Reason string `json:"reason,omitempty"` // why not; for people
}

const (
	indexRebuilt = "rebuilt"
	indexDropped = "dropped"
)

// rebuildLock is how long a rebuild waits for others at each step; it blocks nobody
// who reads or writes, but who waits for a lock behind it.
const rebuildLock = "5s"

// What a session is building will be valid.
const selectInvalidIndexes = `
select n.nspname as schema, c.relname as name, c.relkind = 'I' as partitioned
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
 where not i.indisvalid
   and not exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
 order by n.nspname, c.relname`

type invalidIndex struct {
	Schema, Name string
	Partitioned  bool
}

// leftover is how Postgres calls what a rebuild that failed leaves behind.
var leftover = regexp.MustCompile(`_cc(new|old)[0-9]*$`)

var errRebuiltByPartition = errors.New("it is of a partitioned table: build and attach what its partitions lack")

// rebuild builds the tenant's invalid indexes anew, without blocking reads or writes,
// and drops what earlier rebuilds left. No migration runs meanwhile. The error is of a
// database that couldn't be worked on.
func (f *Fleet) rebuild(ctx context.Context, t catalog.Tenant) ([]RebuiltIndex, error) {
	cfg, err := f.ownerConfig(ctx, t.Server, t.Database)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["lock_timeout"] = rebuildLock
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	switch locked, err := migrations.TryLock(ctx, conn); {
	case err != nil:
		return nil, translate(ctx, err)
	case !locked:
		return nil, migrations.ErrLocked
	}
	found, err := invalidIndexes(ctx, conn)
	if err != nil {
		return nil, err
	}
	list := make([]RebuiltIndex, 0, len(found))
	for _, i := range found {
		r := RebuiltIndex{Tenant: t.Slug, Index: i.quoted(), Done: indexRebuilt}
		switch {
		case leftover.MatchString(i.Name):
			r.Done = indexDropped
			_, err = conn.Exec(ctx, "drop index concurrently if exists "+i.quoted())
		case i.Partitioned:
			err = errRebuiltByPartition
		default:
			_, err = conn.Exec(ctx, "reindex index concurrently "+i.quoted())
		}
		if err != nil {
			r.Done, r.Reason = "", reason(ctx, err)
		}
		list = append(list, r)
		f.log.InfoContext(ctx, "invalid index", "tenant", t.ID.String(), "index", r.Index, "done", r.Done, "reason", r.Reason)
		if ctx.Err() != nil {
			return list, ctx.Err()
		}
	}
	return list, f.dropLeftovers(ctx, conn)
}

func (i invalidIndex) quoted() string { return pgx.Identifier{i.Schema, i.Name}.Sanitize() }

// dropLeftovers drops what the rebuilds that just failed have left.
func (f *Fleet) dropLeftovers(ctx context.Context, conn *pgx.Conn) error {
	found, err := invalidIndexes(ctx, conn)
	if err != nil {
		return err
	}
	for _, i := range found {
		if !leftover.MatchString(i.Name) {
			continue
		}
		if _, err := conn.Exec(ctx, "drop index concurrently if exists "+i.quoted()); err != nil {
			return fmt.Errorf("drop what a rebuild left: %w", translate(ctx, err))
		}
	}
	return nil
}

func invalidIndexes(ctx context.Context, conn *pgx.Conn) ([]invalidIndex, error) {
	rows, _ := conn.Query(ctx, selectInvalidIndexes) // its error is in rows
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[invalidIndex])
	return list, translate(ctx, err)
}
