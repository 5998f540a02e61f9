package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// EditedFile is returned for a migration that differs from the one that databases
// have: it would never come to them. It is an ErrConflict.
type EditedFile struct {
	Stream  Stream
	Version int64
	Name    string // as it was rolled out
}

func (e *EditedFile) Error() string {
	return fmt.Sprintf("%s of stream %s was edited since databases have it: write a new migration instead", e.Name, e.Stream)
}

// Is reports whether target is ErrConflict.
func (e *EditedFile) Is(target error) bool { return target == ErrConflict }

const selectMigrationFiles = `
select f.version, f.name, f.sha256 as sum, f.body from migration_files f where f.stream = $1 order by f.version`

// MigrationFiles lists a stream's migrations as they were rolled out, by version.
func (c *Catalog) MigrationFiles(ctx context.Context, stream Stream) ([]MigrationFile, error) {
	rows, err := c.writer.Query(ctx, selectMigrationFiles, stream)
	if err != nil {
		return nil, wrap("list migrations", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[MigrationFile])
	return list, wrap("list migrations", err)
}

const (
	// Tenants that are being deleted may be taken back. What was under way when a
	// rollout was aborted may be done by now.
	selectHighest = `
select greatest(
         (select max(case $1 when 'freehold' then t.schema_version else t.product_version end)
            from tenants t where t.state <> 'deleted'),
         (select max(case $1 when 'freehold' then d.schema_version else d.product_version end)
            from ready_databases d),
         (select max(r.target) from rollouts r join rollout_targets x on x.rollout = r.id
           where r.stream = $1 and r.state = 'aborted' and x.state = 'running' and x.lease_until > now()), 0)`

	selectEdited = `
select k.version, k.name
  from migration_files k
  join unnest($2::bigint[], $3::bytea[]) as f (version, sum) on f.version = k.version
 where k.stream = $1 and k.sha256 <> f.sum and k.version <= $4
 order by k.version`

	upsertMigrationFiles = `
insert into migration_files as k (stream, version, name, sha256, body)
select $1, f.version, f.name, f.sum, f.body
  from unnest($2::bigint[], $3::text[], $4::bytea[], $5::text[]) as f (version, name, sum, body)
    on conflict (stream, version) do update
       set name = excluded.name, sha256 = excluded.sha256, body = excluded.body, added_at = now()
     where (k.name, k.sha256) <> (excluded.name, excluded.sha256)`

	// Else new tenants would get what nobody has, and nobody wants any more.
	forgetMigrationFiles = `
delete from migration_files where stream = $1 and version > $2 and version <> all ($3::bigint[])`
)

// recordFiles keeps a stream's migrations as they are now. One that a database has
// must be as it was, else *EditedFile, joined for each; one that none has may be
// another by now, or be gone.
func recordFiles(ctx context.Context, tx pgx.Tx, stream Stream, files []MigrationFile) error {
	versions := make([]int64, 0, len(files)) // null would be equal to nothing
	var names, bodies []string
	var sums [][]byte
	for _, f := range files {
		versions, names = append(versions, f.Version), append(names, f.Name)
		sums, bodies = append(sums, f.Sum), append(bodies, f.Body)
	}
	var highest int64
	if err := tx.QueryRow(ctx, selectHighest, stream).Scan(&highest); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, selectEdited, stream, versions, sums, highest)
	if err != nil {
		return err
	}
	var edited []error
	e := EditedFile{Stream: stream}
	_, err = pgx.ForEachRow(rows, []any{&e.Version, &e.Name}, func() error {
		one := e
		edited = append(edited, &one)
		return nil
	})
	if err = errors.Join(append(edited, err)...); err != nil {
		return err
	}
	var batch pgx.Batch
	batch.Queue(upsertMigrationFiles, stream, versions, names, sums, bodies)
	batch.Queue(forgetMigrationFiles, stream, highest, versions)
	return tx.SendBatch(ctx, &batch).Close()
}
