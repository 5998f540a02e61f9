package catalog

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Fitness is what a server was found to be fit for, as one end of a replication.
type Fitness struct {
	WALLevel                 string
	CanPublish, CanSubscribe bool
}

const updateFitness = `
update servers set wal_level = $2, can_publish = $3, can_subscribe = $4 where name = $1`

// SetFitness records what a server, by name, was found to be fit for. No route holds
// any of it, so nothing gets a new number. ErrNotFound.
func (c *Catalog) SetFitness(ctx context.Context, server string, f Fitness) error {
	tag, err := c.writer.Exec(ctx, updateFitness, server, f.WALLevel, f.CanPublish, f.CanSubscribe)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return wrap("record server's fitness", err)
}

// ServerLink is what trying showed of a replication from Source to Target, by name.
type ServerLink struct {
	Source    string    `json:"source"`
	Target    string    `json:"target"`
	Why       string    `json:"why,omitempty"` // it can't be; empty: it can
	CheckedAt time.Time `json:"checked_at"`
}

const upsertLink = `
insert into server_links (source, target, why, checked_at)
select s.id, t.id, left($3, 1000), now() from servers s, servers t where s.name = $1 and t.name = $2
    on conflict (source, target) do update set why = excluded.why, checked_at = excluded.checked_at`

// SetServerLink records whether the target can replicate from the source, both by
// name: why it can't, empty when it can. ErrNotFound.
func (c *Catalog) SetServerLink(ctx context.Context, source, target, why string) error {
	tag, err := c.writer.Exec(ctx, upsertLink, source, target, storable(why))
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return wrap("record link of servers", err)
}

const selectLinks = `
select s.name as source, t.name as target, l.why, l.checked_at
  from server_links l join servers s on s.id = l.source join servers t on t.id = l.target`

const linkBetween = ` where s.name = $1 and t.name = $2`

// ServerLink tells why the target can't replicate from the source, both by name;
// empty when it can. known is false when nobody has tried.
func (c *Catalog) ServerLink(ctx context.Context, source, target string) (why string, known bool, err error) {
	rows, err := c.writer.Query(ctx, selectLinks+linkBetween, source, target)
	if err != nil {
		return "", false, wrap("read link of servers", err)
	}
	link, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[ServerLink])
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	return link.Why, err == nil, wrap("read link of servers", err)
}

const linksOf = ` where $1 in (s.name, t.name) order by s.name, t.name`

// ServerLinks lists what was tried of a server, by name, in both directions.
func (c *Catalog) ServerLinks(ctx context.Context, server string) ([]ServerLink, error) {
	rows, err := c.writer.Query(ctx, selectLinks+linksOf, server)
	if err != nil {
		return nil, wrap("list links of servers", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[ServerLink])
	return list, wrap("list links of servers", err)
}
