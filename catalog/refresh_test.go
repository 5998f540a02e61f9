package catalog_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// Doubts about one tenant are its own: what is being read of another then is
// still worth keeping. Else a tenant whose every request is fenced would keep all
// others from ever being read.
func TestRefresh_isTheTenantsOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	doubted, other := b.tenant("acme"), b.tenant("globex")
	_, token := b.key(other.ID, "all")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	read, admin := make(chan error, 1), b.admin()
	release := b.hold(admin, func() {
		go func() {
			_, err := cache.Authenticate(t.Context(), token)
			read <- err
		}()
	})
	b.exec(admin, `revoke execute on function auth_key(text) from freehold_api`) // whoever begins again fails
	cache.Refresh(doubted.ID)
	release()
	b.ok(<-read)
}

// What was being read of the tenant itself is read again: it may be from before
// the change that made the doubt.
func TestRefresh_readsAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	_, token := b.key(tenant.ID, "all")
	cache := b.cache(b.cat, catalog.CacheConfig{})
	read, admin := make(chan error, 1), b.admin()
	release := b.hold(admin, func() {
		go func() {
			_, err := cache.Authenticate(t.Context(), token)
			read <- err
		}()
	})
	b.exec(admin, `revoke execute on function auth_key(text) from freehold_api`)
	cache.Refresh(tenant.ID)
	release()
	b.is(<-read, catalog.ErrUnavailable)
}

// hold runs read, which has to read a tenant's configuration, and returns when
// that waits for release. admin looks on.
func (b *bench) hold(admin *pgx.Conn, read func()) (release func()) {
	b.Helper()
	tx, err := b.admin().Begin(b.Context())
	b.ok(err)
	_, err = tx.Exec(b.Context(), `lock table tenant_config`)
	b.ok(err)
	read()
	b.within(5*time.Second, "reading", func() bool {
		return b.number(admin, `
			select count(*) from pg_locks
			 where relation = 'tenant_config'::regclass and database =
			       (select oid from pg_database where datname = current_database()) and not granted`) > 0
	})
	return func() { b.ok(tx.Rollback(b.Context())) }
}
