package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Backup is a backup of this catalog in the object store.
type Backup struct {
	Key    string    `json:"key"`
	Bytes  int64     `json:"bytes"`
	Seq    int64     `json:"seq"` // the clock's number that it is true as of
	MadeAt time.Time `json:"made_at"`
}

const insertBackup = `
insert into catalog_backups (key, bytes, seq, made_at) values ($1, $2, $3, $4)
on conflict (key) do update set bytes = excluded.bytes, seq = excluded.seq, made_at = excluded.made_at`

// AddBackup records a backup. Twice is once.
func (c *Catalog) AddBackup(ctx context.Context, b Backup) error {
	_, err := c.writer.Exec(ctx, insertBackup, b.Key, b.Bytes, b.Seq, b.MadeAt)
	return wrap("record backup", err)
}

const deleteBackup = `delete from catalog_backups where key = $1`

// RemoveBackup forgets a backup whose object is gone. Twice is no error.
func (c *Catalog) RemoveBackup(ctx context.Context, key string) error {
	_, err := c.writer.Exec(ctx, deleteBackup, key)
	return wrap("forget backup", err)
}

const selectBackups = `
select key, bytes, seq, made_at from catalog_backups order by made_at desc, key desc`

// Backups lists the recorded ones, newest first.
func (c *Catalog) Backups(ctx context.Context) ([]Backup, error) {
	rows, err := c.writer.Query(ctx, selectBackups)
	if err != nil {
		return nil, wrap("list backups", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Backup])
	return list, wrap("list backups", err)
}
