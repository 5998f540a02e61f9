package catalog

import (
	"context"
	"strings"
)

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
	why = strings.ReplaceAll(strings.ToValidUTF8(why, ""), "\x00", "")
	_, err := c.writer.Exec(ctx, choreFailed, name, why)
	return wrap("record chore", err)
}

const forgetChore = `delete from chores where name = $1`

// ForgetChore forgets one that is no longer done. Not to be there is no error.
func (c *Catalog) ForgetChore(ctx context.Context, name string) error {
	_, err := c.writer.Exec(ctx, forgetChore, name)
	return wrap("forget chore", err)
}
