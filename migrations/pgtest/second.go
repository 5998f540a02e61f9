package pgtest

import (
	"context"
	"fmt"
	"testing"
)

// SecondAdminURL is AdminURL on another server of this test process: one that a
// database can be moved to. It is started at first use and ends with the first.
func SecondAdminURL(t testing.TB) string {
	t.Helper()
	return getSecond(t).adminURL("postgres")
}

// SecondSuperURL is SuperURL on the other server. It takes this role to create
// subscriptions there, and roles of replication: Postgres 15 lets nobody else.
func SecondSuperURL(t testing.TB) string {
	t.Helper()
	return getSecond(t).pg.URL("postgres")
}

// second is the other server; process.mu guards it.
var second struct {
	server *server
	err    error // of the start; it isn't tried twice
}

func getSecond(t testing.TB) *server {
	t.Helper()
	first := get(t)
	process.mu.Lock()
	defer process.mu.Unlock()
	if second.server == nil && second.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), setupTime)
		defer cancel()
		if second.server, second.err = start(ctx); second.err == nil {
			second.err = retryQuickly(ctx, first, second.server)
		}
	}
	if second.err != nil {
		t.Fatalf("pgtest: second server: %v", second.err)
	}
	return second.server
}

// stopSecond ends it. process.mu is held.
func stopSecond() {
	if second.server != nil {
		second.server.close()
		second.server = nil
	}
}

// retryQuickly has workers of replication started again after a tenth of a second,
// not after five: tests kill them.
func retryQuickly(ctx context.Context, servers ...*server) error {
	for _, s := range servers {
		for _, statement := range []string{
			"alter system set wal_retrieve_retry_interval = '100ms'",
			"select pg_reload_conf()",
		} {
			if _, err := s.super.Exec(ctx, statement); err != nil {
				return fmt.Errorf("set retries: %w", err)
			}
		}
	}
	return nil
}
