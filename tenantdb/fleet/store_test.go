package fleet_test

import (
	"fmt"
	"sync/atomic"

	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
)

var buckets atomic.Int64

// store opens a bucket of the test's own.
func (b *bench) store() *blob.Store {
	b.Helper()
	s, _ := b.bucket()
	return s
}

// bucket is store, with what another process needs to open it too.
func (b *bench) bucket() (*blob.Store, blob.Config) {
	b.Helper()
	cfg := blob.Config{Endpoint: blobtest.Shared(b), Bucket: fmt.Sprintf("fleet-%d", buckets.Add(1))}
	s, err := blob.Open(b.Context(), cfg, true)
	b.ok(err)
	return s, cfg
}
