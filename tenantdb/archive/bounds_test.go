package archive_test

import (
	"context"
	"io"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/lock"

	"freehold/migrations/pgtest"
	"freehold/tenantdb/archive"
)

// What an archive takes of memory doesn't grow with a table.
func TestMemory(t *testing.T) { //nolint:paralleltest // it measures the process
	rows, most := 12_000, 48
	if pgtest.Long() {
		rows = 120_000
	}
	h := open(t)
	h.exec(`create schema shop; create table shop.wide (n integer, t text)`)
	h.exec(`insert into shop.wide select i, repeat(md5(i::text), 80) from generate_series(1, $1::int) i`, rows)
	runtime.GC()
	w := &watching{}
	before := w.heap()
	total, err := archive.Write(t.Context(), w, h.source())
	h.ok(err)
	if grown := int(w.peak-before) >> 20; grown > most || total.Rows != int64(rows) {
		t.Errorf("%d rows of 2.5 KB took %d MB, more than %d", total.Rows, grown, most)
	}
}

// watching is a writer that looks at the heap.
type watching struct {
	n    int
	peak uint64
}

func (w *watching) Write(p []byte) (int, error) {
	if w.n++; w.n%16 == 0 {
		w.peak = max(w.peak, w.heap())
	}
	return io.Discard.Write(p)
}

func (w *watching) heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Migrations wait for an archive, and not behind its locks of tables.
func TestMigrationsWait(t *testing.T) {
	t.Parallel()
	h := open(t)
	migration, err := pgx.Connect(t.Context(), h.at.OwnerURL)
	h.ok(err)
	defer func() { _ = migration.Close(context.WithoutCancel(t.Context())) }()
	var tried, free bool
	src := h.source()
	src.Progress = func(archive.Totals) {
		if !tried {
			tried = true
			h.ok(migration.QueryRow(t.Context(), `select pg_try_advisory_lock($1)`, lock.DefaultLockID).Scan(&free))
		}
	}
	_, err = archive.Write(t.Context(), io.Discard, src)
	if h.ok(err); free || !tried {
		t.Errorf("tried %v: a migration could have begun", tried)
	}
	h.ok(migration.QueryRow(t.Context(), `select pg_try_advisory_lock($1)`, lock.DefaultLockID).Scan(&free))
	if !free {
		t.Error("it still can't begin")
	}
}
