package tenantdb_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"freehold/catalog"
	"freehold/tenantdb"
)

// Both kinds of connection can be lent.
var (
	_ tenantdb.Conn = (*pgx.Conn)(nil)
	_ tenantdb.Conn = (*pgxpool.Conn)(nil)
)

func TestFenceRefusesAStaleEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.admitted()
	b.fence(11)
	stale := admission()
	_, read := b.db.Prediction(t.Context(), p.ID)
	_, listed := b.db.Predictions(t.Context(), uuid.Nil, 10)
	ran := false
	for name, err := range map[string]error{
		"admit": b.admit(b.db, stale),
		"read":  read,
		"list":  listed,
		"tx":    b.db.Tx(t.Context(), func(pgx.Tx) error { ran = true; return nil }),
	} {
		if !errors.Is(err, tenantdb.ErrFenced) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ran {
		t.Error("a fenced transaction ran")
	}
	b.settle(tenantdb.Settlement{ID: p.ID, State: "succeeded"}) // what was admitted is accounted for

	// The same connection serves whoever knows the new truth, at once.
	fresh := tenantdb.On(b.conn, 11)
	if _, err := fresh.Prediction(t.Context(), stale.ID); !errors.Is(err, tenantdb.ErrNotFound) {
		t.Errorf("the refused prediction: %v", err)
	}
	b.ok(fresh.Tx(t.Context(), func(tx pgx.Tx) error { return nil }))

	// Without a fence nobody is let in.
	_, err := b.owner.Exec(t.Context(), "delete from freehold.tenant_identity")
	b.ok(err)
	if err := b.admit(fresh, stale); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("no identity row: %v", err)
	}
}

func TestTx(t *testing.T) {
	t.Parallel()
	b := setup(t)
	remove := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `delete from freehold.predictions`)
		return err
	}
	there := func(id uuid.UUID) bool {
		_, err := b.db.Prediction(t.Context(), id)
		if err != nil && !errors.Is(err, tenantdb.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	p := b.admitted()
	mine := errors.New("changed my mind")
	err := b.db.Tx(t.Context(), func(tx pgx.Tx) error { return errors.Join(remove(t.Context(), tx), mine) })
	if !errors.Is(err, mine) || !there(p.ID) {
		t.Errorf("fn's error: %v; the row is there: %v", err, there(p.ID))
	}
	func() {
		defer func() { _ = recover() }()
		_ = b.db.Tx(t.Context(), func(tx pgx.Tx) error { _ = remove(t.Context(), tx); panic("stop") })
	}()
	ctx, cancel := context.WithCancel(t.Context())
	err = b.db.Tx(ctx, func(tx pgx.Tx) error { defer cancel(); return remove(ctx, tx) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before commit: %v", err)
	}
	b.db = tenantdb.On(b.connect(b.at.TenantURL), 10) // the driver closed the cancelled one
	if !there(p.ID) {
		t.Error("a panic or a cancellation committed")
	}
	b.ok(b.db.Tx(t.Context(), func(tx pgx.Tx) error { return remove(t.Context(), tx) }))
	if there(p.ID) {
		t.Error("not committed")
	}
}

// What a lost database looks like from here, and that no text of the driver gets out.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, tenantdb.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		} else if s := err.Error(); strings.Contains(s, b.at.Database) || strings.Contains(s, "127.0.0.1") {
			t.Errorf("%s: names the database: %s", what, s)
		}
	}
	_, err := b.owner.Exec(t.Context(), "select pg_terminate_backend($1)", b.conn.PgConn().PID())
	if err != nil { // not a superuser and not a member of the role: end it from within
		_, err = b.conn.Exec(t.Context(), "select pg_terminate_backend(pg_backend_pid())")
		check("terminated", tenantdb.Translate(t.Context(), err))
	}
	check("closed", b.admit(b.db, admission()))
	_, err = pgx.Connect(t.Context(), "postgres://u:hunter2@127.0.0.1:1/"+b.at.Database)
	check("nobody listens", tenantdb.Translate(t.Context(), err))
	cfg := b.owner.Config().Copy()
	cfg.Database = "t_gone"
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	check("no such database", tenantdb.Translate(t.Context(), err))
	cfg = b.connect(b.at.TenantURL).Config().Copy()
	cfg.Password = "hunter2"
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	check("wrong password", tenantdb.Translate(t.Context(), err))

	// The caller's own end isn't the database's.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = b.owner.Exec(ctx, "select pg_sleep(5)")
	if err := tenantdb.Translate(ctx, err); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("deadline: %v", err)
	}
}

func TestTranslateKeepsValuesOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.conn.Exec(t.Context(), "select 'my secret prompt'::integer")
	if got := tenantdb.Translate(t.Context(), err); !errors.Is(got, tenantdb.ErrInvalid) || strings.Contains(got.Error(), "prompt") {
		t.Errorf("bad value: %v", got)
	}
	_, err = b.conn.Exec(t.Context(), "select my_secret_prompt")
	var refused *tenantdb.StateError
	if got := tenantdb.Translate(t.Context(), err); !errors.As(got, &refused) || refused.State != "42703" || strings.Contains(got.Error(), "prompt") {
		t.Errorf("bad statement: %v", got)
	}
}

func TestProveIdentity(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ok(tenantdb.Prove(t.Context(), b.conn, b.id))
	foreign := func(what string, conn *pgx.Conn, id catalog.TenantID) {
		t.Helper()
		if err := tenantdb.Prove(t.Context(), conn, id); !errors.Is(err, tenantdb.ErrForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	foreign("another tenant's id", b.conn, catalog.NewTenantID())

	// That it couldn't be read in time says nothing of whose it is.
	held, err := b.owner.Begin(t.Context())
	b.ok(err)
	_, err = held.Exec(t.Context(), "lock table freehold.tenant_identity")
	b.ok(err)
	slow := b.connect(b.at.TenantURL)
	_, err = slow.Exec(t.Context(), "set statement_timeout = '20ms'")
	b.ok(err)
	err = tenantdb.Prove(t.Context(), slow, b.id)
	if errors.Is(err, tenantdb.ErrForeign) || !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("not read in time: %v", err)
	}
	b.ok(held.Rollback(t.Context()))

	foreign("another role", b.owner, b.id)
	_, err = b.owner.Exec(t.Context(), "update freehold.tenant_identity set tenant = $1", uuid.Must(uuid.NewV7()))
	b.ok(err)
	foreign("another tenant's row", b.conn, b.id)
	_, err = b.owner.Exec(t.Context(), "delete from freehold.tenant_identity")
	b.ok(err)
	foreign("no row", b.conn, b.id)
	_, err = b.owner.Exec(t.Context(), "revoke select on freehold.tenant_identity from freehold_tenant")
	b.ok(err)
	foreign("a row that can't be read", b.conn, b.id)
	_, err = b.owner.Exec(t.Context(), "drop table freehold.tenant_identity cascade")
	b.ok(err)
	foreign("no table", b.conn, b.id)
}
