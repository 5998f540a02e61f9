package tenantdb_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
)

// A batch is one transaction behind the fence: all of it or nothing.
func TestBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rows := func() (n int) {
		t.Helper()
		b.ok(b.owner.QueryRow(t.Context(), `select count(*) from freehold.predictions`).Scan(&n))
		return n
	}
	const insert = `
insert into freehold.predictions (id, request_id, api_key, kind, model, streamed, state, created_at)
values ($1, 'r', 'k', 'chat', 'm', false, 'in_progress', now())`
	first, second := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	var one int
	batch := new(pgx.Batch)
	batch.Queue(insert, first)
	batch.Queue(`select 1`).QueryRow(func(row pgx.Row) error { return row.Scan(&one) })
	b.ok(b.db.Batch(t.Context(), batch))
	if one != 1 || rows() != 1 {
		t.Errorf("read %d, %d rows", one, rows())
	}

	batch = new(pgx.Batch)
	batch.Queue(insert, second)
	batch.Queue(insert, first) // its id was used before
	if err := b.db.Batch(t.Context(), batch); !errors.Is(err, tenantdb.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	b.fence(11)
	batch = new(pgx.Batch)
	batch.Queue(insert, second)
	if err := b.db.Batch(t.Context(), batch); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("got %v, want ErrFenced", err)
	}
	if rows() != 1 {
		t.Errorf("%d rows, want the first one alone", rows())
	}
}
