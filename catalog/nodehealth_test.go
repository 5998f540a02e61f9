package catalog_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

// What a node says of itself is read with the overview; what can't be stored costs
// no heartbeat.
func TestNodeHealth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var said atomic.Value
	said.Store(`{"servers": [1]}`)
	var calls atomic.Int64
	c := b.cache(b.cat, catalog.CacheConfig{NodeName: "n-1", Poll: 20 * time.Millisecond, Health: func() []byte {
		calls.Add(1)
		return []byte(said.Load().(string))
	}})
	told := func(want string) func() bool {
		return func() bool {
			o, err := b.cat.Overview(t.Context(), 1)
			b.ok(err)
			return len(o.Nodes) == 1 && o.Nodes[0].ID == c.NodeID() && string(o.Nodes[0].Health) == want && o.Nodes[0].Silent < 3*time.Second
		}
	}
	b.within(3*time.Second, "health told", told(`{"servers": [1]}`))
	bads := []string{`{"a": "\u0000"}`, "not JSON", `{"a": "` + strings.Repeat("x", 9000) + `"}`, ""}
	if !pgtest.Long() {
		bads = bads[:1] // each takes two seconds
	}
	for _, bad := range bads {
		said.Store(bad)
		b.within(3*time.Second, "nothing told", told(`{}`))
		said.Store(`{"ok": true}`)
		b.within(3*time.Second, "told again", told(`{"ok": true}`))
	}
	began, before := time.Now(), calls.Load()
	for range 20 { // each moves the clock, and has a heartbeat written
		b.server(unique("pg"))
	}
	if n, most := calls.Load()-before, int64(time.Since(began)/time.Second)+2; n > most {
		t.Errorf("asked %d times in %s", n, time.Since(began))
	}
}
