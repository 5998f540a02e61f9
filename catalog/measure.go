package catalog

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Measure is what was found on a server.
type Measure struct {
	UsedBytes      int64  // of all databases that could be asked
	Databases      int    // all that there are, whoever's
	FilesADatabase int    // of a tenant's, on the average; 0: none was looked into
	SyncMethod     string // recovery_init_sync_method, or off when fsync is
}

// Without a look into a tenant's database the average of before holds.
const updateMeasure = `
update servers
   set used_bytes = $2, files_a_database = coalesce(nullif($4::integer, 0), files_a_database),
       files = $3::bigint * coalesce(nullif($4::integer, 0), files_a_database), sync_method = $5, measured_at = now()
 where id = $1`

// SetMeasure records what was measured on a server, by its id. No route holds any
// of it, so nothing gets a new number. ErrNotFound.
func (c *Catalog) SetMeasure(ctx context.Context, serverID string, m Measure) error {
	id, err := uuid.Parse(serverID)
	if err != nil {
		return wrap("record measure", invalid(wrong("server", "want a uuid")))
	}
	tag, err := c.writer.Exec(ctx, updateMeasure, id, m.UsedBytes, m.Databases, m.FilesADatabase, m.SyncMethod)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return wrap("record measure", err)
}

// Ids are made in the order of time.
const selectSample = `
select database
  from (select t.database, row_number() over (order by t.id) as n, count(*) over () as total
          from tenants t where t.server_id = $1 and t.state in ('active', 'suspended')) own
 where n in (1, (total + 1) / 2, total) order by n`

// Sample names up to three tenants' databases of a server, by its id, that stand
// for all: the oldest, the newest, and the one in between.
func (c *Catalog) Sample(ctx context.Context, serverID string) ([]string, error) {
	id, err := uuid.Parse(serverID)
	if err != nil {
		return nil, wrap("choose databases", invalid(wrong("server", "want a uuid")))
	}
	rows, err := c.writer.Query(ctx, selectSample, id)
	if err != nil {
		return nil, wrap("choose databases", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, wrap("choose databases", err)
}
