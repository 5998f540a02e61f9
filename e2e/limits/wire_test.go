package limits_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/e2e/wire"
	"freehold/migrations/pgtest"
)

// The wire on which round trips are counted counts them: a batch is one flush,
// however many statements it has.
func TestWireCountsFlushes(t *testing.T) {
	t.Parallel()
	server, err := url.Parse(pgtest.AdminURL(t))
	if err != nil {
		t.Fatal(err)
	}
	way, err := wire.Open(server.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	server.Host = way.Addr()
	connect := func() (*pgx.Conn, error) {
		conn, err := pgx.Connect(t.Context(), server.String())
		if err == nil {
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
		}
		return conn, err
	}
	conn, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	batch := func() error {
		b := new(pgx.Batch)
		for range 3 {
			b.Queue("select $1::int", 1)
		}
		return conn.SendBatch(t.Context(), b).Close()
	}
	user := server.User.Username()
	if err := batch(); err != nil { // prepares the statement
		t.Fatal(err)
	}
	before := way.Flushes(user)
	for range 5 {
		if err := batch(); err != nil {
			t.Fatal(err)
		}
	}
	if got := way.Flushes(user) - before; got != 5 {
		t.Errorf("%d flushes of 5 batches", got)
	}
	way.Lose(user, 2)
	if err := batch(); err != nil {
		t.Errorf("the answer before the one that is lost: %v", err)
	}
	if err := batch(); err == nil {
		t.Error("the answer that is lost came")
	}
	if conn, err = connect(); err != nil {
		t.Fatal(err)
	}
	way.Cut()
	if err := batch(); err == nil {
		t.Error("cut, and answered")
	}
	if _, err := connect(); err == nil {
		t.Error("cut, and connected")
	}
	way.Mend()
	if _, err := connect(); err != nil {
		t.Errorf("mended: %v", err)
	}
}
