package catalog_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"freehold/catalog"
)

// What tenant-facing code may do is held by the database, not by its statements.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, globex := b.tenant("acme"), b.tenant("globex")
	key, _ := b.key(acme.ID, "all")
	b.key(globex.ID, "all")
	api := b.as("freehold_api")

	see := func(table string, as catalog.TenantID, want int64) {
		t.Helper()
		err := pgx.BeginFunc(t.Context(), api, func(tx pgx.Tx) error {
			if !as.IsZero() {
				if _, err := tx.Exec(t.Context(), `select set_config('app.current_tenant_id', $1, true)`, as.String()); err != nil {
					return err
				}
			}
			var n, foreign int64
			err := tx.QueryRow(t.Context(), `select count(*), count(*) filter (where tenant <> $1) from `+table, as).Scan(&n, &foreign)
			if n != want || foreign != 0 {
				t.Errorf("%s: sees %d rows, %d of them another tenant's; want %d", table, n, foreign, want)
			}
			return err
		})
		b.ok(err)
	}
	for id, requests := range map[catalog.TenantID]int{acme.ID: 1, globex.ID: 2} {
		b.exec(b.as("freehold_catalog"), `
			insert into usage_daily (tenant, day, model, requests, prompt_tokens, completion_tokens)
			values ($1, '2026-11-01', 'm', $2, 0, 0)`, id, requests)
	}
	for table, rows := range map[string]int64{"api_keys": 2, "tenant_config": 1, "usage_daily": 1} {
		see(table, catalog.TenantID{}, 0)
		see(table, acme.ID, rows)
		see(table, globex.ID, rows)
		see(table, catalog.NewTenantID(), 0)
		see(table, catalog.TenantID{}, 0) // the name ended with its transaction
	}

	// Across tenants only auth_key answers, and only with tenant and hash.
	var tenant catalog.TenantID
	var hash []byte
	b.ok(api.QueryRow(t.Context(), `select tenant, hash from auth_key($1)`, key.ID).Scan(&tenant, &hash))
	if tenant != acme.ID || len(hash) != 32 {
		t.Errorf("auth_key: %s, %d bytes", tenant, len(hash))
	}

	refused := func(conn *pgx.Conn, sql string, args ...any) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql, args...)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "42501" {
			t.Errorf("%s: %v, want SQLSTATE 42501", sql, err)
		}
	}
	b.exec(api, `select set_config('app.current_tenant_id', $1, false)`, acme.ID.String())
	for _, sql := range []string{
		`update api_keys set revoked_at = null`,
		`insert into api_keys (id, tenant, hash, scopes) values ('x', '` + acme.ID.String() + `', decode(repeat('00', 32), 'hex'), '{all}')`,
		`delete from api_keys`,
		`update tenant_config set monthly_token_limit = 1`,
		`select secret from tenants`,
		`select admin_secret from servers`,
		`select sealed from catalog_seal`,
		`select secret from engines`,
		`select hash from operators`,
		`select secret from ready_databases`,
		`select args from operations`,
		`select recipient from mail_outbox`,
		`update usage_daily set requests = 0`,
		`select catalog_tick(false)`,
		`select append_operator_audit('a', 'b', null, '{}')`,
		`select count(*) from river.river_job`,
		`create table mine (a int)`,
	} {
		refused(api, sql)
	}
	auth := b.as("freehold_auth")
	refused(auth, `select scopes from api_keys`)
	refused(auth, `select * from tenant_config`)
	refused(auth, `create table mine (a int)`)

	// A new table is nobody's but our own writers' until somebody says so here; and
	// what must stand as it was written they can only add to.
	for role, want := range map[string]string{
		"public": "", "freehold_api": "api_keys,tenant_config,usage_daily", "freehold_auth": "", "freehold_tenant": "",
	} {
		var got string
		b.ok(b.admin().QueryRow(t.Context(), `
			select coalesce(string_agg(relname, ',' order by relname), '') from pg_class
			 where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')
			   and has_table_privilege($1::text, oid, 'select, insert, update, delete, truncate, references, trigger')`, role).Scan(&got))
		if got != want {
			t.Errorf("%s may use %q, want %q", role, got, want)
		}
	}
	for _, table := range []string{"operator_audit", "receipts"} {
		refused(b.as("freehold_catalog"), `delete from `+table)
		refused(b.as("freehold_catalog"), `update `+table+` set tenant = null`)
	}

	// FORCE binds the owner of the tables too: what the admin sees, it sees as a
	// member of freehold_catalog.
	forced := b.number(b.admin(), `
		select count(*) from pg_class where relname in ('api_keys', 'tenant_config', 'usage_daily') and relrowsecurity and relforcerowsecurity`)
	if forced != 3 {
		t.Errorf("row-level security is forced on %d tables of 3", forced)
	}
}
