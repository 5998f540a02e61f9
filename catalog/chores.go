package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Chore is a periodic work, and how its last runs ended.
type Chore struct {
	Name    string     `json:"name"`
	DoneAt  *time.Time `json:"done_at"`            // nil: it never ended well
	Error   string     `json:"error,omitempty"`    // of a run since then
	ErrorAt *time.Time `json:"error_at,omitempty"` // of the last such run
}

const choreDone = `
insert into chores (name) values ($1)
on conflict (name) do update set done_at = now(), error = '', error_at = null`

// ChoreDone records that a run ended well.
func (c *Catalog) ChoreDone(ctx context.Context, name string) error {
	_, err := c.writer.Exec(ctx, choreDone, name)
	return wrap("record chore", err)
}

// One that never ended well bears the beginning of Unix time.
const choreFailed = `
insert into chores (name, done_at, error, error_at) values ($1, 'epoch', left($2, 1000), now())
on conflict (name) do update set error = excluded.error, error_at = excluded.error_at`

// ChoreFailed records that a run failed, and why: a text for people, without
// secrets.
func (c *Catalog) ChoreFailed(ctx context.Context, name, why string) error {
	_, err := c.writer.Exec(ctx, choreFailed, name, why)
	return wrap("record chore", err)
}

const selectChores = `
select name, nullif(done_at, 'epoch') as done_at, error, error_at from chores order by name`

// Chores lists by name.
func (c *Catalog) Chores(ctx context.Context) ([]Chore, error) {
	rows, err := c.writer.Query(ctx, selectChores)
	if err != nil {
		return nil, wrap("list chores", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Chore])
	return list, wrap("list chores", err)
}
