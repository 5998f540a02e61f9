package migrations

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// TryLock takes the lock of the database that conn is connected to, under which Apply
// works, unless somebody has it. It is free again when conn is closed.
func TryLock(ctx context.Context, conn *pgx.Conn) (locked bool, err error) {
	err = conn.QueryRow(ctx, tryLock, lockKey).Scan(&locked)
	return locked, err
}
