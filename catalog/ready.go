package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ReadyDatabase is a tenant without a name: its database, role, identity and
// prefix are there, or about to be.
type ReadyDatabase struct {
	ID             TenantID
	Server         string
	State          string // making, ready or dropping
	SchemaVersion  int64
	SchemaNeeds    int64 // as a tenant's
	ProductVersion int64
}

// Versions are those of its database.
func (r ReadyDatabase) Versions() Versions { return Versions{r.SchemaVersion, r.ProductVersion} }

// Claims of one server come one after another, behind its row; what a refill has
// locked is skipped.
const claimOne = `
with taken as (
    delete from ready_databases
     where id = (select id from ready_databases
                  where server_id = $1 and state = 'ready' and schema_version = $2 and product_version = $13
                  order by created_at limit 1 for update skip locked)
    returning id, server_id, secret, secret_key_id, schema_version, schema_needs, product_version)
insert into tenants (id, slug, name, email, plan, labels, pin, region, state, server_id, database, role,
                     secret, secret_key_id, epoch, schema_version, schema_needs, product_version, request_key, request_hash)
select id, $3, $4, $5, $6, $7, $8, $9, 'active', server_id, $10 || replace(id::text, '-', ''), $10 || replace(id::text, '-', ''),
       secret, secret_key_id, 0, schema_version, schema_needs, product_version, nullif($11, ''), $12
  from taken
returning id`

// claimReady makes a tenant of a ready database of the server, if there is one of
// these versions.
func claimReady(ctx context.Context, tx pgx.Tx, spec TenantSpec, at placement, versions Versions) (id TenantID, claimed bool, err error) {
	err = tx.QueryRow(ctx, claimOne, at.id, versions.Freehold, spec.Slug, spec.Name, spec.Email, spec.Plan, spec.Labels, spec.Pin,
		orDefault(spec.Region, at.region), databasePrefix, spec.RequestKey, spec.RequestHash, versions.Product).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return id, false, nil
	}
	return id, err == nil, err
}

const (
	lockServerRow = `select id::text from servers where name = $1 for no key update`
	countReady    = `select count(*) from ready_databases where server_id = $1 and state <> 'dropping'`
	insertReady   = `insert into ready_databases (id, server_id, secret, secret_key_id) values ($1, $2, $3, $4)`
)

// AddReady registers one more ready database to be made on the server. It returns
// false when the server has as many as it should, or has no room. ErrNotFound.
func (c *Catalog) AddReady(ctx context.Context, server string, want int) (r ReadyDatabase, added bool, err error) {
	r = ReadyDatabase{ID: NewTenantID(), Server: server, State: "making"}
	sealed, keyID, err := c.keyset.Seal([]byte(newPassword()), tenantAAD(r.ID))
	if err != nil {
		return r, false, err
	}
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		var id string
		var n int
		if err := tx.QueryRow(ctx, lockServerRow, server).Scan(&id); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, countReady, id).Scan(&n); err != nil || n >= want {
			return err
		}
		s, err := queryServer(ctx, tx, selectServers+` where s.id = $1`, id)
		if err != nil || s.Room <= 0 {
			return err
		}
		added = true
		_, err = tx.Exec(ctx, insertReady, r.ID, id, sealed, keyID)
		return err
	})
	return r, added && err == nil, wrap("add ready database", err)
}

const selectReady = `
select r.id, s.name as server, r.state, r.schema_version, r.schema_needs, r.product_version
  from ready_databases r join servers s on s.id = r.server_id
 where ($1 = '' or s.name = $1) order by s.name, r.created_at, r.id`

// ReadyDatabases lists a server's, or all.
func (c *Catalog) ReadyDatabases(ctx context.Context, server string) ([]ReadyDatabase, error) {
	rows, err := c.writer.Query(ctx, selectReady, server)
	if err != nil {
		return nil, wrap("list ready databases", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[ReadyDatabase])
	return list, wrap("list ready databases", err)
}

const updateReady = `
update ready_databases set state = $3, schema_version = $4, schema_needs = $5, product_version = $6, error = ''
 where id = $1 and state = $2`

// SetReady moves a ready database from one state to another, at its versions.
// ErrConflict when it isn't in that state, as one that was claimed meanwhile.
func (c *Catalog) SetReady(ctx context.Context, r ReadyDatabase, from, to string) error {
	tag, err := c.writer.Exec(ctx, updateReady, r.ID, from, to, r.SchemaVersion, r.SchemaNeeds, r.ProductVersion)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("set ready database: it is not %s: %w", from, ErrConflict)
	}
	return wrap("set ready database", err)
}

const deleteReady = `delete from ready_databases where id = $1 and state = 'dropping'`

// RemoveReady forgets a ready database that was dropped.
func (c *Catalog) RemoveReady(ctx context.Context, id TenantID) error {
	_, err := c.writer.Exec(ctx, deleteReady, id)
	return wrap("remove ready database", err)
}

const selectReadyRoute = `
select r.secret, s.host, s.port, s.ssl_mode, s.ssl_root_ca
  from ready_databases r join servers s on s.id = r.server_id where r.id = $1`

// ReadyLogin is how the role of a ready database logs in there. Only
// tenantdb/fleet may call it. ErrNotFound, also when it was claimed meanwhile.
func (c *Catalog) ReadyLogin(ctx context.Context, id TenantID) (*pgx.ConnConfig, error) {
	var at endpoint
	var sealed []byte
	err := c.writer.QueryRow(ctx, selectReadyRoute, id).Scan(&sealed, &at.Host, &at.Port, &at.SSLMode, &at.SSLRootCA)
	if err != nil {
		return nil, wrap("read ready database", err)
	}
	// It is sealed as the secret of the tenant that it becomes.
	secret, err := c.keyset.Open(sealed, tenantAAD(id))
	if err != nil {
		return nil, fmt.Errorf("read ready database: %w", err)
	}
	return at.login(id.DatabaseName(), string(secret), id.DatabaseName(), c.encryption)
}

const selectAnyReady = `select exists (select from ready_databases where state = 'ready')`

// AnyReady reports whether a ready database waits somewhere.
func (c *Catalog) AnyReady(ctx context.Context) (ready bool, err error) {
	err = c.writer.QueryRow(ctx, selectAnyReady).Scan(&ready)
	return ready, wrap("look for ready databases", err)
}
