package fleet

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// watchEvery is how often is looked at the locks of a migration that is at work. What
// a transaction holds at its end is seen in any case.
const watchEvery = 20 * time.Millisecond

// watch sees what a migration does to a database in which nobody else is.
type watch struct {
	versions string // the table of versions, which isn't told of
	was      snapshot

	mu     sync.Mutex            // guards what follows; held while conn is asked
	conn   *pgx.Conn             // on that database
	locks  map[lockKey]*lockSpan // of the migration that is at work
	looked time.Duration         // that the migration waited for us
	err    error

	stop context.CancelFunc
	done chan struct{}
}

type lockKey struct{ Relation, Kind, Mode string }

// lockSpan is when a lock was seen; whole: until the transaction's end.
type lockSpan struct {
	first, last time.Time
	whole       bool
}

// Relations that aren't committed yet can't be seen from another session, and so are
// left out: nobody waits for them.
const selectLocks = `
select distinct n.nspname || '.' || c.relname as relation, c.relkind::text as kind, l.mode
  from pg_locks l
  join pg_class c on c.oid = l.relation
  join pg_namespace n on n.oid = c.relnamespace
 where l.locktype = 'relation' and l.granted and l.pid <> pg_backend_pid()
   and l.database = (select d.oid from pg_database d where d.datname = current_database())
   and l.pid in (select a.pid from pg_stat_activity a where a.backend_type in ('client backend', 'parallel worker'))
   and l.mode <> 'AccessShareLock'
   and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'`

// sample looks once. mu is held.
func (w *watch) sample(ctx context.Context, whole bool) {
	rows, _ := w.conn.Query(ctx, selectLocks) // its error is in rows
	seen, err := pgx.CollectRows(rows, pgx.RowToStructByName[lockKey])
	if err != nil {
		w.err = cmp.Or(w.err, err)
		return
	}
	now := time.Now()
	for _, key := range seen {
		if strings.HasPrefix(key.Relation, w.versions) { // its index and sequence too
			continue
		}
		span, known := w.locks[key]
		if !known {
			span = &lockSpan{first: now}
			w.locks[key] = span
		}
		span.last, span.whole = now, span.whole || whole
	}
}

// open looks at the database as it is.
func (w *watch) open(ctx context.Context) (err error) {
	w.was, err = takeSnapshot(ctx, w.conn)
	return err
}

// begin watches until end.
func (w *watch) begin(ctx context.Context) {
	w.locks, w.looked, w.err = map[lockKey]*lockSpan{}, 0, nil
	ctx, w.stop = context.WithCancel(ctx)
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		for pause(ctx, watchEvery) == nil {
			w.mu.Lock()
			if ctx.Err() == nil {
				// Not cut off in the middle by end, which would close the connection.
				asked, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
				w.sample(asked, false)
				cancel()
			}
			w.mu.Unlock()
		}
	}()
}

// at is called by the migration, whose transaction is open at "ddl" with all that it
// has done.
func (w *watch) at(ctx context.Context, point string) {
	if point != "ddl" {
		return
	}
	began := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sample(ctx, true)
	w.looked += time.Since(began)
}

// end ends the watch, and tells what was done since begin.
func (w *watch) end(ctx context.Context) (DryRunStep, error) {
	ended := time.Now()
	w.stop()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	step := DryRunStep{Locks: []DryRunLock{}}
	for key, span := range w.locks {
		held := span.last.Sub(span.first)
		if span.whole {
			held = ended.Sub(span.first) - w.looked
		}
		step.Locks = append(step.Locks, DryRunLock{
			Relation: key.Relation, Kind: kinds[key.Kind], Mode: key.Mode, Blocks: blocks(key.Mode), Held: max(0, held),
		})
	}
	slices.SortFunc(step.Locks, func(a, b DryRunLock) int {
		return cmp.Or(cmp.Compare(b.Held, a.Held), cmp.Compare(a.Relation, b.Relation), cmp.Compare(a.Mode, b.Mode))
	})
	if w.err != nil {
		return step, translate(ctx, w.err)
	}
	now, err := takeSnapshot(ctx, w.conn)
	if err != nil {
		return step, err
	}
	w.was.compare(now, &step, w.versions)
	w.was = now
	return step, nil
}

// blocks is what a table-level lock keeps from others' statements: Postgres's table
// of conflicting lock modes.
func blocks(mode string) string {
	switch mode {
	case "AccessExclusiveLock":
		return "reads and writes"
	case "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock":
		return "writes"
	}
	return ""
}

// snapshot is what a database has.
type snapshot struct {
	Bytes, WAL int64
	relations  map[int64]relation // by oid
}

type relation struct {
	OID      int64
	Relation string
	Kind     string
	Node     int64 // names its file: a new one was written anew
	Bytes    int64
	On       string // the table of an index
	OnOID    int64
	Valid    bool
}

// kinds are pg_class's relkind in words.
var kinds = map[string]string{
	"r": "table", "p": "partitioned table", "m": "materialized view", "v": "view", "f": "foreign table",
	"i": "index", "I": "partitioned index", "S": "sequence", "c": "type",
}

const (
	selectMeasures = `
select pg_database_size(current_database()) as bytes, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as wal`

	selectRelations = `
select c.oid::bigint as oid, n.nspname || '.' || c.relname as relation, c.relkind::text as kind,
       coalesce(pg_relation_filenode(c.oid), 0)::bigint as node, coalesce(pg_relation_size(c.oid), 0) as bytes,
       coalesce(tn.nspname || '.' || t.relname, '') as on, coalesce(t.oid, 0)::bigint as onoid,
       coalesce(i.indisvalid, true) as valid
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_index i on i.indexrelid = c.oid
  left join pg_class t on t.oid = i.indrelid
  left join pg_namespace tn on tn.oid = t.relnamespace
 where c.relkind <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'`
)

func takeSnapshot(ctx context.Context, conn *pgx.Conn) (s snapshot, err error) {
	if err := conn.QueryRow(ctx, selectMeasures).Scan(&s.Bytes, &s.WAL); err != nil {
		return s, translate(ctx, err)
	}
	rows, _ := conn.Query(ctx, selectRelations) // its error is in rows
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[relation])
	if err != nil {
		return s, translate(ctx, err)
	}
	s.relations = make(map[int64]relation, len(list))
	for _, r := range list {
		s.relations[r.OID] = r
	}
	return s, nil
}

// compare tells what was done from s to now. What begins as the table of versions is
// left out.
func (s snapshot) compare(now snapshot, step *DryRunStep, versions string) {
	step.Rewrites, step.Built = []DryRunRelation{}, []DryRunRelation{}
	step.Created, step.Dropped = []string{}, []string{}
	step.Grown, step.WAL = now.Bytes-s.Bytes, now.WAL-s.WAL
	for oid, r := range now.relations {
		old, there := s.relations[oid]
		_, onOld := s.relations[r.OnOID]
		told := DryRunRelation{Relation: r.Relation, Kind: kinds[r.Kind], On: r.On, Bytes: r.Bytes, Invalid: !r.Valid}
		switch {
		case strings.HasPrefix(r.Relation, versions):
		case there && old.Node != r.Node:
			told.Bytes = old.Bytes
			step.Rewrites = append(step.Rewrites, told)
		case there:
		case r.On != "" && onOld:
			step.Built = append(step.Built, told)
		case r.On == "": // an index of a new table is a part of it
			step.Created = append(step.Created, kinds[r.Kind]+" "+r.Relation)
		}
	}
	for oid, r := range s.relations {
		if _, there := now.relations[oid]; !there {
			step.Dropped = append(step.Dropped, kinds[r.Kind]+" "+r.Relation)
		}
	}
	bySize := func(a, b DryRunRelation) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Relation, b.Relation))
	}
	slices.SortFunc(step.Rewrites, bySize)
	slices.SortFunc(step.Built, bySize)
	slices.Sort(step.Created)
	slices.Sort(step.Dropped)
}
