package replica

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// Same compares two databases whole, both at once: nobody may change either meanwhile.
// *Differs, also for a table that only one of them has.
func Same(ctx context.Context, source, target *pgx.Conn) error {
	var sums [2]map[string]Sum
	group, gctx := errgroup.WithContext(ctx)
	for i, conn := range []*pgx.Conn{source, target} {
		group.Go(func() error {
			tables, err := Tables(gctx, conn)
			if err == nil {
				sums[i], err = Sums(gctx, conn, tables)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	return differing(sums[0], sums[1])
}
