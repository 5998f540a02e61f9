package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const insertServer = `
insert into servers (id, name, region, host, port, ssl_mode, ssl_root_ca, admin_user, admin_secret,
                     secret_key_id, version, max_connections, budget, reserve)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`

// AddServer registers a server that tenants can be placed on; ErrExists when the
// name is taken. Zero means: port 5432, ssl_mode verify-full, a tenth of
// max_connections (at least 3) in reserve for admins, the rest as budget; no
// ready databases, as many databases as come back from a crash within 120 s.
func (c *Catalog) AddServer(ctx context.Context, spec ServerSpec) (Server, error) {
	spec.Port = orDefault(spec.Port, 5432)
	spec.SSLMode = orDefault(spec.SSLMode, "verify-full")
	spec.Reserve = orDefault(spec.Reserve, max(3, spec.MaxConnections/10))
	spec.Budget = orDefault(spec.Budget, spec.MaxConnections-spec.Reserve)
	if err := spec.validate(); err != nil {
		return Server{}, fmt.Errorf("add server: %w", err)
	}
	id := uuid.Must(uuid.NewV7()).String()
	sealed, keyID, err := c.keyset.Seal([]byte(spec.Password), serverAAD(id))
	if err != nil {
		return Server{}, err
	}
	var s Server
	err = c.changePlatform(ctx, "add server", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertServer, id, spec.Name, spec.Region, spec.Host, spec.Port, spec.SSLMode,
			spec.SSLRootCA, spec.AdminUser, sealed, keyID, spec.Version, spec.MaxConnections, spec.Budget,
			spec.Reserve)
		if err != nil {
			return err
		}
		s, err = setServer(ctx, tx, id, spec.placement())
		return err
	})
	return s, err
}

// A ready database that is being made or dropped is a database, too, and so is one
// that a move is about to make: its tenant is counted once it lives there.
const selectServers = `
select s.id::text, s.name, s.region, s.host, s.port, s.ssl_mode, s.admin_user, s.version,
       s.max_connections, s.budget, s.reserve, s.state, s.labels, s.plans, s.ready, s.max_databases,
       s.max_recovery_s, s.disk_bytes, s.used_bytes, s.files, s.files_a_database, s.sync_method,
       s.measured_at, s.wal_level, s.can_publish, s.can_subscribe, s.created_at, t.tenants, r.ready_now, k.kept, m.coming,
       t.tenants + r.made + k.kept + m.coming as databases
  from servers s
 cross join lateral (select count(*) as tenants from tenants where server_id = s.id and state <> 'deleted') t
 cross join lateral (select count(*) as made, count(*) filter (where state = 'ready') as ready_now
                       from ready_databases where server_id = s.id) r
 cross join lateral (select count(*) as kept from kept_databases where server_id = s.id) k
 cross join lateral (select count(*) as coming from operations o join tenants x on x.id = o.tenant
                      where o.kind = 'move' and o.state in ('waiting', 'running') and o.args ->> 'to' = s.name
                        and x.server_id <> s.id) m`

// Servers lists by name.
func (c *Catalog) Servers(ctx context.Context) ([]Server, error) {
	list, err := queryServers(ctx, c.writer, selectServers+` order by s.name`)
	return list, wrap("list servers", err)
}

// Server reads one by name. ErrNotFound.
func (c *Catalog) Server(ctx context.Context, name string) (Server, error) {
	s, err := queryServer(ctx, c.writer, selectServers+` where s.name = $1`, name)
	return s, wrap("read server", err)
}

func queryServers(ctx context.Context, q querier, sql string, args ...any) ([]Server, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return collectServers(rows)
}

func collectServers(rows pgx.Rows) ([]Server, error) {
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Server])
	for i := range list {
		list[i].predict()
	}
	return list, err
}

func queryServer(ctx context.Context, q querier, sql string, args ...any) (Server, error) {
	list, err := queryServers(ctx, q, sql, args...)
	if err == nil && len(list) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Server{}, err
	}
	return list[0], nil
}

const (
	lockServerToRemove = `
select id::text, state from servers where name = $1 for update`
	countMade   = `select count(*) from ready_databases where server_id = $1`
	forgetReady = `delete from ready_databases where server_id = $1`

	deleteServer = `delete from servers where id = $1`
)

// RemoveServer refuses with ErrConflict while tenants live there, also deleted
// ones whose rows are kept, while tenants move there, while it keeps databases that
// tenants have left, and while it has ready databases: those are dropped first. Of a
// server that is down the ready ones are forgotten, since nobody can drop them, but
// not those kept: they hold what was somebody's.
func (c *Catalog) RemoveServer(ctx context.Context, name string) error {
	return c.changePlatform(ctx, "remove server", func(tx pgx.Tx) error {
		var id, state string
		if err := tx.QueryRow(ctx, lockServerToRemove, name).Scan(&id, &state); err != nil {
			return err
		}
		var made int
		if err := tx.QueryRow(ctx, countMade, id).Scan(&made); err != nil {
			return err
		}
		s, err := queryServer(ctx, tx, selectServers+` where s.id = $1`, id)
		if err != nil {
			return err
		}
		switch {
		case s.Tenants > 0:
			return fmt.Errorf("%w: tenants live there (%d): freehold server drain %s", ErrConflict, s.Tenants, name)
		case s.Coming > 0:
			return fmt.Errorf("%w: tenants are moving there (%d)", ErrConflict, s.Coming)
		case s.Kept > 0:
			return fmt.Errorf("%w: it keeps databases that tenants have left (%d): wait until they are dropped", ErrConflict, s.Kept)
		case made > 0 && state != ServerDown:
			return fmt.Errorf("%w: it has ready databases (%d): set ready to 0 and wait until they are dropped", ErrConflict, made)
		case made > 0:
			if _, err := tx.Exec(ctx, forgetReady, id); err != nil {
				return err
			}
		}
		return deleteOne(ctx, tx, deleteServer, id, "the records of deleted tenants name it")
	})
}

// deleteOne deletes the row of that name; held says who uses it still, when
// others refer to it.
func deleteOne(ctx context.Context, tx pgx.Tx, sql, name, held string) error {
	tag, err := tx.Exec(ctx, sql, name)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == foreignKeyViolation:
		return fmt.Errorf("%w: %s", ErrConflict, held)
	case err == nil && tag.RowsAffected() == 0:
		return pgx.ErrNoRows
	}
	return err
}
