package fleet

import (
	"context"
	"strconv"

	"freehold/migrations"
	"freehold/tenantdb/fleet/dump"
)

// copySettings are for the hundreds of statements that fill a database: nobody waits
// for the disk to have each. Whoever relies on the copy has the server flush its log
// afterwards, which any commit that waits does. And indexes are made in memory.
const copySettings = " -c synchronous_commit=off -c maintenance_work_mem=128MB"

// client is how Postgres's programs log in to a database of a server, as the owner
// of its databases. The caller calls cleanup, which is never nil.
func (f *Fleet) client(ctx context.Context, server, database string) (at dump.Database, cleanup func(), err error) {
	cleanup = func() {}
	cfg, err := f.cat.ServerAdmin(ctx, server, database)
	if err != nil {
		return at, cleanup, err
	}
	mode, root, cleanup, err := f.sslEnv(ctx, server)
	if err != nil {
		return at, cleanup, err
	}
	at = dump.Database{Name: database, Env: []string{
		"PGHOST=" + cfg.Host, "PGPORT=" + strconv.Itoa(int(cfg.Port)), "PGUSER=" + cfg.User, "PGPASSWORD=" + cfg.Password,
		"PGSSLMODE=" + mode, "PGAPPNAME=freehold-copy",
		"PGOPTIONS=-c role=" + migrations.RoleOwner + copySettings,
		"PGCONNECT_TIMEOUT=" + strconv.Itoa(int(connectTimeout.Seconds())),
	}}
	if root != "" {
		at.Env = append(at.Env, "PGSSLROOTCERT="+root)
	}
	return at, cleanup, nil
}
