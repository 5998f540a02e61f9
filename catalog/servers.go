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
// max_connections (at least 3) in reserve for admins, the rest as budget.
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
		rows, err := tx.Query(ctx, selectServers+` where s.id = $1`, id)
		if err != nil {
			return err
		}
		s, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Server])
		return err
	})
	return s, err
}

const selectServers = `
select s.id::text, s.name, s.region, s.host, s.port, s.ssl_mode, s.admin_user, s.version,
       s.max_connections, s.budget, s.reserve, s.state, s.created_at,
       (select count(*) from tenants t where t.server_id = s.id and t.state <> 'deleted') as tenants
  from servers s`

// Servers lists by name.
func (c *Catalog) Servers(ctx context.Context) ([]Server, error) {
	rows, err := c.writer.Query(ctx, selectServers+` order by s.name`)
	if err != nil {
		return nil, wrap("list servers", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Server])
	return list, wrap("list servers", err)
}

const deleteServer = `delete from servers where name = $1`

// RemoveServer refuses with ErrConflict while tenants live there, also deleted
// ones whose rows are kept.
func (c *Catalog) RemoveServer(ctx context.Context, name string) error {
	return c.changePlatform(ctx, "remove server", func(tx pgx.Tx) error {
		return deleteOne(ctx, tx, deleteServer, name, "tenants live there")
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
