package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Class says how a borrower is treated when connections are scarce.
type Class uint8

// Settle is first in the queue and never refused; Interactive is a waiting user;
// Background is everything that can wait.
const (
	Interactive Class = iota
	Settle
	Background
)

// Conn is what a DB needs of a connection; *pgxpool.Conn and *pgx.Conn have it.
type Conn interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// DB is one tenant's database for as long as a borrow lasts, with the epoch that
// its borrower decided on. It isn't safe for concurrent use.
type DB struct {
	conn  Conn
	epoch int64
}

// On binds a connection to an epoch. Only the router and fleet call it.
func On(conn Conn, epoch int64) *DB { return &DB{conn: conn, epoch: epoch} }

// checkFence raises when the tenant's fence is above the epoch, and also where
// there is no fence: one pipelined statement before the others stops them all.
const checkFence = `
select coalesce((select i.fence <= $1 from freehold.tenant_identity i), false)::freehold.unfenced`

// fenced starts a batch with the fence check. A batch is one implicit
// transaction, so a check that raises stops all that follows it.
func (db *DB) fenced() *pgx.Batch {
	b := new(pgx.Batch)
	b.Queue(checkFence, db.epoch)
	return b
}

// send runs a batch in one round trip. When a plan that the connection had kept
// doesn't fit the tables any more, the batch, one transaction, has rolled back and
// the driver has forgotten its plans: it is sent once more.
func (db *DB) send(ctx context.Context, b *pgx.Batch) error {
	err := db.conn.SendBatch(ctx, b).Close()
	if isStalePlan(err) {
		again := new(pgx.Batch)
		for _, q := range b.QueuedQueries {
			again.Queue(q.SQL, q.Arguments...).Fn = q.Fn
		}
		err = db.conn.SendBatch(ctx, again).Close()
	}
	return Translate(ctx, err)
}

// Batch runs b's statements in one round trip and as one transaction, which begins
// with the fence check: with ErrFenced nothing was done. Results go to the
// functions queued with the statements; these may be called twice, when a plan has
// to be made again. b must not begin or end a transaction.
func (db *DB) Batch(ctx context.Context, b *pgx.Batch) error {
	fenced := db.fenced()
	for _, q := range b.QueuedQueries {
		fenced.Queue(q.SQL, q.Arguments...).Fn = q.Fn
	}
	return db.send(ctx, fenced)
}

// rollbackTimeout bounds the clean-up of a transaction whose caller is gone.
const rollbackTimeout = 5 * time.Second

// Tx runs fn in a transaction. Its begin and the fence check are one round trip:
// with ErrFenced fn never runs. It commits when fn returns nil and rolls back
// otherwise, also when fn panics. Errors of fn are translated.
func (db *DB) Tx(ctx context.Context, fn func(pgx.Tx) error) (err error) {
	begin := "begin;" + strings.ReplaceAll(checkFence, "$1", strconv.FormatInt(db.epoch, 10))
	tx, err := db.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		err = Translate(ctx, err)
		if errors.Is(err, ErrFenced) {
			err = errors.Join(err, db.endAborted(ctx))
		}
		return fmt.Errorf("begin: %w", err)
	}
	done := false
	defer func() {
		if !done {
			// The transaction must end although the caller may be gone.
			rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			_ = tx.Rollback(rctx) // a connection that can't roll back is closed by the driver
		}
	}()
	if err := fn(tx); err != nil {
		return Translate(ctx, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", Translate(ctx, err))
	}
	done = true
	return nil
}

// endAborted ends the transaction block that a refused begin left open.
func (db *DB) endAborted(ctx context.Context) error {
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	b := new(pgx.Batch)
	b.Queue("rollback")
	return db.send(rctx, b)
}
