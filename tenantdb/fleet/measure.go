package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
)

const (
	// measureParallel is how many servers are measured at once, and measureTimeout
	// what one may take: a server that hangs holds up nobody else's.
	measureParallel = 4
	measureTimeout  = time.Minute
)

// MeasureServers records how full each server is and what a crash would cost
// there: what placement goes by. Servers that are down are left out; one that
// can't be measured now keeps what was measured last. The error is the catalog's
// alone.
func (f *Fleet) MeasureServers(ctx context.Context) error {
	servers, err := f.cat.Servers(ctx)
	if err != nil {
		return fmt.Errorf("measure servers: %w", err)
	}
	var group errgroup.Group
	group.SetLimit(measureParallel)
	for _, s := range servers {
		if s.State == catalog.ServerDown {
			continue
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := f.measureServer(ctx, s)
			if errors.Is(err, catalog.ErrNotFound) {
				return nil // removed meanwhile
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("measure servers: %w", err)
	}
	return nil
}

func (f *Fleet) measureServer(ctx context.Context, s catalog.Server) error {
	sample, err := f.cat.Sample(ctx, s.ID)
	if err != nil {
		return err
	}
	m, err := f.measure(ctx, s.Name, sample)
	if err != nil {
		f.log.WarnContext(ctx, "server not measured", "server", s.Name, "error", reason(ctx, err))
		return nil
	}
	return f.cat.SetMeasure(ctx, s.ID, m)
}

func (f *Fleet) measure(ctx context.Context, server string, sample []string) (m catalog.Measure, err error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	conn, err := f.admin(ctx, server, maintenance)
	if err != nil {
		return m, err
	}
	defer closeConn(ctx, conn)
	if m, err = readSizes(ctx, conn); err != nil {
		return m, err
	}
	files, looked := 0, 0
	for _, database := range sample {
		n, err := f.countFiles(ctx, server, database)
		if ctx.Err() != nil {
			return m, ctx.Err()
		}
		if err != nil {
			continue // deleted meanwhile, perhaps
		}
		files += n
		looked++
	}
	if looked > 0 {
		m.FilesADatabase = (files + looked - 1) / looked
	}
	return m, nil
}

// Databases of others that the admin may not ask count with nothing.
const selectSizes = `
select coalesce(sum(pg_database_size(oid)) filter (where has_database_privilege(oid, 'connect')), 0)::bigint as used_bytes,
       count(*) as databases,
       case current_setting('fsync') when 'off' then 'off'
            else current_setting('recovery_init_sync_method') end as sync_method
  from pg_database`

// readSizes asks what is known without a look into any database.
func readSizes(ctx context.Context, conn *pgx.Conn) (m catalog.Measure, err error) {
	err = conn.QueryRow(ctx, selectSizes).Scan(&m.UsedBytes, &m.Databases, &m.SyncMethod)
	return m, translate(ctx, err)
}

// One main fork for each relation that has storage and isn't shared by all
// databases, and one more for each gigabyte of it; a free space map and a
// visibility map for each table that was vacuumed, which is when it gets its
// relpages; and three of the database's own: PG_VERSION, pg_filenode.map,
// pg_internal.init.
const selectFiles = `
select 3 + sum(1 + relpages::bigint * current_setting('block_size')::bigint / 1073741824
                 + case when relkind in ('r', 't', 'm') and relpages > 0 then 2 else 0 end)::bigint
  from pg_class
 where relkind in ('r', 't', 'm', 'i', 'S') and not relisshared`

// countFiles estimates how many files a database has, which only a superuser could
// count.
func (f *Fleet) countFiles(ctx context.Context, server, database string) (n int, err error) {
	conn, err := f.admin(ctx, server, database)
	if err != nil {
		return 0, err
	}
	defer closeConn(ctx, conn)
	err = conn.QueryRow(ctx, selectFiles).Scan(&n)
	return n, translate(ctx, err)
}
