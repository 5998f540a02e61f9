package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
)

const selectPublication = `
select p.puballtables or p.pubviaroot or not (p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate)
  from pg_publication p
 where p.pubname = $1`

const selectPublished = `
select n.nspname::text, c.relname::text
  from pg_publication p
  join pg_publication_rel r on r.prpubid = p.oid
  join pg_class c on c.oid = r.prrelid
  join pg_namespace n on n.oid = c.relnamespace
 where p.pubname = $1`

// published are a publication's tables, by Table.String.
func published(ctx context.Context, q Querier, name string) (map[string]bool, error) {
	rows, _ := q.Query(ctx, selectPublished, name)
	names := map[string]bool{}
	var t Table
	_, err := pgx.ForEachRow(rows, []any{&t.Schema, &t.Name}, func() error {
		names[t.String()] = true
		return nil
	})
	return names, err
}

// Publish makes the publication, of exactly these tables: partitions by themselves, so
// that the target may have more or fewer. One of that name with other tables is made
// anew. conn is that of who owns the tables and the database. ErrUnfit for a table
// without a replica identity: the source would refuse its updates from then on.
func Publish(ctx context.Context, conn *pgx.Conn, name string, tables []Table) error {
	if len(tables) == 0 {
		return fmt.Errorf("publish: no tables: %w", ErrUnfit)
	}
	want := map[string]bool{}
	var quoted []string
	for _, t := range tables {
		if t.Key == nil && !t.Full {
			return fmt.Errorf("publish: table %s has no replica identity: %w", t, ErrUnfit)
		}
		quoted = append(quoted, "only "+t.String())
		want[t.String()] = true
	}
	identifier := pgx.Identifier{name}.Sanitize()
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var other bool
		switch err := tx.QueryRow(ctx, selectPublication, name).Scan(&other); {
		case err == nil:
			has, err := published(ctx, tx, name)
			if err != nil || !other && maps.Equal(has, want) {
				return err
			}
			if _, err := tx.Exec(ctx, "drop publication "+identifier); err != nil {
				return err
			}
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		_, err := tx.Exec(ctx, "create publication "+identifier+" for table "+strings.Join(quoted, ", ")+
			" with (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)")
		return err
	})
	return wrap("publish", err)
}

// Unpublish drops the publication, if it is there.
func Unpublish(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "drop publication if exists "+pgx.Identifier{name}.Sanitize())
	return wrap("unpublish", err)
}
