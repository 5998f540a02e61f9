package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
)

// references are what databases should look like. Each is looked for in the catalog
// once, and made where it isn't there.
type references struct {
	*Fleet
	mu    sync.Mutex
	found map[referenceKey]func() (shape, error) // guarded by mu
}

// referenceKey is all that a reference depends on, besides migrations: extensions,
// forms of definitions and the schema public are the server's.
type referenceKey struct {
	server  string
	release int // server_version_num
	at      catalog.Versions
}

func (f *Fleet) references() *references {
	return &references{Fleet: f, found: map[referenceKey]func() (shape, error){}}
}

// of is the reference of a key. Who comes while it is made waits; what came of it
// holds for the rest of the run. ctx is the run's.
func (r *references) of(ctx context.Context, key referenceKey) (shape, error) {
	r.mu.Lock()
	get, known := r.found[key]
	if !known {
		get = sync.OnceValues(func() (shape, error) { return r.get(ctx, key) })
		r.found[key] = get
	}
	r.mu.Unlock()
	return get()
}

func (r *references) get(ctx context.Context, key referenceKey) (shape, error) {
	sets, err := r.setsTo(ctx, key.at)
	if err != nil {
		return shape{}, err
	}
	sum, err := key.sum(sets)
	if err != nil {
		return shape{}, err
	}
	kept, err := r.cat.Reference(ctx, sum)
	if err == nil {
		s := shape{sum: kept.Fingerprint}
		if json.Unmarshal(kept.Objects, &s.objects) == nil {
			return s, nil
		}
	} else if !errors.Is(err, catalog.ErrNotFound) {
		return shape{}, err
	}
	s, err := r.make(ctx, key.server, sets)
	if err != nil {
		return s, fmt.Errorf("migrate a database from zero on server %s: %w", key.server, because(ctx, err))
	}
	objects, err := json.Marshal(s.objects)
	if err != nil {
		return s, err
	}
	return s, r.cat.SaveReference(ctx, catalog.SchemaReference{Sum: sum, Fingerprint: s.sum, Objects: objects})
}

// sum names the reference in the catalog; a binary that asks otherwise, or has other
// migrations, has another one.
func (k referenceKey) sum(sets streams) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d\n%s%s%d\n", k.server, k.release, sessionOfLook, withLines, k.at.Product)
	err := addFiles(h, sets.freehold)
	if err == nil {
		fmt.Fprint(h, "product\n")
		err = addFiles(h, sets.product)
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// makeTime bounds the making of a reference, and migrateStatement each of its
// statements: the database is empty.
const (
	makeTime         = 5 * time.Minute
	migrateStatement = time.Minute
)

// make migrates a new database from zero, looks at it and drops it.
func (r *references) make(ctx context.Context, server string, sets streams) (shape, error) {
	ctx, cancel := context.WithTimeout(ctx, makeTime)
	defer cancel()
	name, drop, err := r.scratch(ctx, server)
	if err != nil {
		return shape{}, err
	}
	defer drop()
	cfg, err := r.ownerConfig(ctx, server, name)
	if err != nil {
		return shape{}, err
	}
	for _, set := range []migrations.Set{sets.freehold, sets.product} {
		if _, err := (migrations.Options{StatementTimeout: migrateStatement}).Apply(ctx, cfg, set); err != nil {
			return shape{}, err
		}
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return shape{}, err
	}
	defer closeConn(ctx, conn)
	return look(ctx, conn)
}

// scratchLife is how long a scratch database is used at most, without anybody being
// connected to it.
const scratchLife = time.Hour

// Their names say when they were made.
const selectOldScratch = `
select d.datname
  from pg_database d
 where case when d.datname ~ ('^' || $1 || '[0-9a-f]{24}$')
            then ('x' || substr(d.datname, length($1) + 1, 8))::bit(32)::bigint < $2 end
   and coalesce(shobj_description(d.oid, 'pg_database'), $3) = $3
   and not exists (select from pg_stat_activity a where a.datid = d.oid)
 order by d.datname`

// dropOldScratch drops the scratch databases that killed processes have left on a
// server. It is only tidying: what it can't drop the next one does.
func (f *Fleet) dropOldScratch(ctx context.Context, server string) {
	err := func() error {
		mark, err := f.mark(ctx)
		if err != nil {
			return err
		}
		conn, err := f.admin(ctx, server, maintenance)
		if err != nil {
			return err
		}
		defer closeConn(ctx, conn)
		old, err := names(ctx, conn, selectOldScratch, scratchPrefix, time.Now().Add(-scratchLife).Unix(), mark)
		for _, name := range old {
			// Not by force: somebody may be back in it.
			if _, err := conn.Exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()); err != nil {
				return translate(ctx, err)
			}
			f.log.InfoContext(ctx, "old scratch database dropped", "server", server, "database", name)
		}
		return err
	}()
	if err != nil {
		f.log.WarnContext(ctx, "old scratch databases not dropped", "server", server, "reason", reason(ctx, err))
	}
}
