package tenantdb

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

const selectAsked = `
select ` + jobColumns + ` from freehold.fine_tuning_jobs j
 where j.api_key = $1
   and ($2 <> '' and j.idempotency_key = $2 and j.created_at > now() - interval '1 day'
        or $2 = '' and j.idempotency_key = '' and j.request_hash = $3 and j.created_at > now() - $4::interval
           and j.state not in ('failed', 'cancelled'))
 order by j.created_at desc limit 1`

// AskedJob reads the earlier job that CreateJob would return for one of this APIKey,
// IdempotencyKey and RequestHash. ErrNotFound when it would make one, ErrMismatch,
// ErrFenced.
func (db *DB) AskedJob(ctx context.Context, j Job, within time.Duration) (Job, error) {
	var list []Job
	b := db.fenced()
	b.Queue(selectAsked, j.APIKey, j.IdempotencyKey, j.RequestHash, within).Query(collectInto(&list))
	err := db.send(ctx, b)
	switch {
	case err != nil:
	case len(list) == 0:
		err = ErrNotFound
	case j.IdempotencyKey != "" && !bytes.Equal(list[0].RequestHash, j.RequestHash):
		err = ErrMismatch
	}
	if err != nil {
		return Job{}, fmt.Errorf("look for fine-tuning job: %w", err)
	}
	return list[0], nil
}
