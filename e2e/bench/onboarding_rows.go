package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// Rows of tenants that have no database: what a catalog knows of them is all there.
const (
	insertConfigs = `insert into tenant_config (tenant) select id from tenants`
	insertKeys    = `
insert into api_keys (id, tenant, name, hash, scopes)
select left(md5(id::text), 12), id, 'first', sha256(convert_to(id::text, 'UTF8')), '{all}' from tenants`
	setClock = `update catalog_clock set seq = $1`
	// Each transition has another number, and the clock had the last.
	analyze = `vacuum analyze tenants, tenant_config, api_keys, catalog_clock`
)

// register writes n tenants into a new catalog, each with its configuration and a
// key. Their secrets are sealed as a tenant's are.
func (g *ground) register(ctx context.Context, database string, cat *catalog.Catalog, keys *catalog.Keyset, n int) ([]catalog.TenantID, error) {
	server, err := cat.AddServer(ctx, catalog.ServerSpec{
		Name: serverName, Host: "127.0.0.1", Port: g.server.Port(), SSLMode: "disable", AdminUser: adminName,
		Password: g.password, Version: 150000, MaxConnections: maxConnections,
		MaxDatabases: 1_000_000, MaxRecovery: 24 * 60 * 60,
	})
	if err != nil {
		return nil, err
	}
	version, err := latest()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, g.server.URL(database))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	ids := make([]catalog.TenantID, n)
	row := func(i int) ([]any, error) {
		ids[i] = catalog.NewTenantID()
		// As the catalog binds it; a route would not open otherwise.
		sealed, keyID, err := keys.Seal([]byte(newPassword()), "tenant:"+ids[i].String())
		slug, name := fmt.Sprintf("tenant-%06d", i), ids[i].DatabaseName()
		return []any{ids[i], slug, "Tenant " + slug, slug + "@example.com", "standard", "active", server.ID,
			name, name, sealed, keyID, int64(i + 1), version}, err
	}
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"tenants"}, []string{
		"id", "slug", "name", "email", "plan", "state", "server_id",
		"database", "role", "secret", "secret_key_id", "epoch", "schema_version",
	}, pgx.CopyFromSlice(n, row)); err != nil {
		return nil, fmt.Errorf("register tenants: %w", err)
	}
	for _, sql := range []string{insertConfigs, insertKeys} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("register tenants: %w", err)
		}
	}
	if _, err := conn.Exec(ctx, setClock, int64(n)); err != nil {
		return nil, fmt.Errorf("register tenants: %w", err)
	}
	if _, err := conn.Exec(ctx, analyze); err != nil {
		return nil, fmt.Errorf("register tenants: %w", err)
	}
	return ids, nil
}

// newPassword is as long as a tenant's, and needs no quoting.
func newPassword() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
