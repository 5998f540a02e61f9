package fleet_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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

// unsteady is store behind a proxy, which refuses all while away is true.
func (b *bench) unsteady() (store *blob.Store, away *atomic.Bool) {
	b.Helper()
	away = new(atomic.Bool)
	target, err := url.Parse(blobtest.Shared(b))
	b.ok(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	b.Cleanup(front.Close)
	store, err = blob.Open(b.Context(), blob.Config{Endpoint: front.URL, Bucket: fmt.Sprintf("fleet-away-%d", buckets.Add(1))}, true)
	b.ok(err)
	return store, away
}
