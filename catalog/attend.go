package catalog

import (
	"context"
	"math"
	"time"

	"github.com/google/uuid"
)

// A process that serves nobody has seen nothing older than any number, and so is
// never waited for by a move; it isn't listed among the nodes.
const (
	bornWorker = math.MaxInt64
	servesTo   = `born < 9223372036854775807`
)

// Attend says, each second until ctx ends, that a process works here that serves
// nobody, which master keys it has (RotateKeyset waits for it as for a node), and
// which versions of the tenants' schema it knows; 0: it doesn't say.
// What can't be said now is said later, and logged once.
func (c *Catalog) Attend(ctx context.Context, name, version string, schemaMin, schemaMax int64) {
	id := uuid.Must(uuid.NewV7())
	for heard := true; ; {
		err := bounded(ctx, func(ctx context.Context) error {
			_, err := c.writer.Exec(ctx, upsertNode, id, name, version, 0, int64(bornWorker), nil, c.keyset.KeyIDs(),
				schemaMin, schemaMax)
			return wrap("write heartbeat", err)
		})
		if err != nil && heard && ctx.Err() == nil {
			c.logger.WarnContext(ctx, "worker not heard of", "error", err)
		}
		heard = err == nil
		if !pause(ctx, time.Second) {
			break
		}
	}
	// ctx has ended, and the row would be taken for that of a process that was killed.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := c.writer.Exec(ctx, deleteNode, id); err != nil {
		c.logger.WarnContext(ctx, "worker's row not removed", "error", wrap("remove worker", err))
	}
}
