package router_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
)

// write is a request that needs a primary. No tenant may do it on one either.
func write(ctx context.Context, db *tenantdb.DB) error {
	return db.Tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `create table freehold.failover (n int)`)
		return err
	})
}

// A primary that became a standby answers, and refuses writes: its connections
// are dropped once, and not for each request that fails so.
func TestFailover_DropsAServersConnectionsOnce(t *testing.T) {
	t.Parallel()
	s := setup(t, 3, nil)
	standby, others := s.ids[0], s.ids[1:]
	superExec(t, "alter database "+pgx.Identifier{s.dbs[0].Database}.Sanitize()+" set default_transaction_read_only = on")
	var before, after []int64
	for _, id := range others {
		before = append(before, s.visit(t, id, 1))
	}
	release := s.occupy(t, others[0], 1)
	if err := s.For(standby, 1).Borrow(t.Context(), tenantdb.Interactive, write); err == nil {
		t.Fatal("written")
	}
	soon(t, "noticed", func() bool { return s.one(t).Failovers == 1 })
	if err := release(); err != nil {
		t.Errorf("a borrower was harmed: %v", err)
	}
	soon(t, "the old connections gone", func() bool {
		return super(t, `select count(*) from pg_stat_activity where pid = any($1)`, before) == 0
	})
	for _, id := range others {
		after = append(after, s.visit(t, id, 1))
	}
	if err := s.For(standby, 1).Borrow(t.Context(), tenantdb.Interactive, write); err == nil {
		t.Fatal("written")
	}
	time.Sleep(100 * time.Millisecond)
	for i, id := range others {
		if got := s.visit(t, id, 1); got != after[i] {
			t.Error("dropped again within seconds")
		}
	}
	if got := s.one(t).Failovers; got != 1 {
		t.Errorf("%d failovers, want 1", got)
	}
}

// An administrator ended one session: that tells nothing of the others.
func TestFailover_OneSessionThatIsEndedIsNone(t *testing.T) {
	t.Parallel()
	s := setup(t, 4, nil)
	killed, others := s.ids[0], s.ids[1:]
	var before []int64
	for _, id := range others {
		before = append(before, s.visit(t, id, 1))
	}
	err := s.For(killed, 1).Borrow(t.Context(), tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		_, pid, err := whoami(ctx, db)
		if err != nil {
			return err
		}
		super(t, `select pg_terminate_backend($1, 2000)::int`, pid)
		_, _, err = whoami(ctx, db)
		return err
	})
	if !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	s.visit(t, killed, 1)
	time.Sleep(100 * time.Millisecond)
	for i, id := range others {
		if got := s.visit(t, id, 1); got != before[i] {
			t.Error("another tenant's connection was dropped")
		}
	}
	if got := s.one(t).Failovers; got != 0 {
		t.Errorf("%d failovers, want none", got)
	}
}
