package admin_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
)

// Whoever floods the door with tokens that need a look-up, while that takes long,
// doesn't take the catalog's connections from everybody else.
func TestGate_floodOfTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, theirs, err := b.Catalog.CreateOperator(t.Context(), "ann", catalog.RoleViewer, nil)
	b.OK(err)
	queue, err := b.Catalog.QueuePool()
	b.OK(err)
	conn, err := queue.Acquire(t.Context())
	b.OK(err)
	defer conn.Release()
	for _, sql := range []string{"begin", "set local role freehold_catalog", "lock table operators in access exclusive mode"} {
		_, err := conn.Exec(t.Context(), sql)
		b.OK(err)
	}
	var flood sync.WaitGroup
	for range 16 {
		flood.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.client.URL+"/admin/v1/nodes", http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Authorization", "Bearer "+theirs)
			if a, err := http.DefaultClient.Do(r); err == nil {
				_ = a.Body.Close()
			}
		})
	}
	time.Sleep(300 * time.Millisecond) // all have come
	began := time.Now()
	b.client.Do("GET", "/admin/v1/nodes", "").Into(200, new(map[string]any))
	if took := time.Since(began); took > time.Second {
		t.Errorf("the others waited %s", took)
	}
	_, err = conn.Exec(t.Context(), "rollback")
	b.OK(err)
	flood.Wait()
	http.DefaultClient.CloseIdleConnections()
	b.client.With(theirs).Do("GET", "/admin/v1/nodes", "").Into(200, new(map[string]any))
}
