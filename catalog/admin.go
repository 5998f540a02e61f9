package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// AdminConfig returns how the spec's admin logs in on a database, before the
// catalog knows the server. Only tenantdb/fleet may call it.
func (s ServerSpec) AdminConfig(database string) (*pgx.ConnConfig, error) {
	at := endpoint{Host: s.Host, Port: s.Port, SSLMode: s.SSLMode, SSLRootCA: s.SSLRootCA}
	return at.login(s.AdminUser, s.Password, database, endpoint.tls)
}

const selectServerCA = `select ssl_root_ca from servers where name = $1`

// ServerCA returns the certificates (PEM text) that a server is trusted by, empty
// for the system's own. ErrNotFound.
func (c *Catalog) ServerCA(ctx context.Context, name string) (string, error) {
	var pem string
	err := c.writer.QueryRow(ctx, selectServerCA, name).Scan(&pem)
	return pem, wrap("read server's certificates", err)
}

const (
	selectServerAt = `select id::text from servers where name = $1 and host = $2 for no key update`
	updateServer   = `
update servers
   set region = $2, port = $12, ssl_mode = $3, ssl_root_ca = $4, admin_user = $5, admin_secret = $6,
       secret_key_id = $7, version = $8, max_connections = $9, budget = $10, reserve = $11
 where id = $1`
)

// UpdateServer changes how a server that is known by this name at this host is
// reached (its port may have changed) and shared. All of the spec is taken as it
// is, except that placement (from Labels on) which isn't named stays. Its tenants
// get a new epoch, so that every route is renewed. ErrExists when the name is
// another host's.
func (c *Catalog) UpdateServer(ctx context.Context, spec ServerSpec) (Server, error) {
	if err := spec.validate(); err != nil {
		return Server{}, fmt.Errorf("update server: %w", err)
	}
	var s Server
	err := c.changePlatform(ctx, "update server", func(tx pgx.Tx) error {
		var id string
		err := tx.QueryRow(ctx, selectServerAt, spec.Name, spec.Host).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("update server: %s is at another host: %w", spec.Name, ErrExists)
		}
		if err != nil {
			return err
		}
		sealed, keyID, err := c.keyset.Seal([]byte(spec.Password), serverAAD(id))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, updateServer, id, spec.Region, spec.SSLMode, spec.SSLRootCA, spec.AdminUser,
			sealed, keyID, spec.Version, spec.MaxConnections, spec.Budget, spec.Reserve, spec.Port)
		if err != nil {
			return err
		}
		if err := renewResidents(ctx, tx, id); err != nil {
			return err
		}
		s, err = setServer(ctx, tx, id, spec.placement())
		return err
	})
	return s, err
}
