package blobtest

import (
	"sync"
	"testing"
)

// shared is the process's one store while tests use it; mu guards all of it.
var shared struct {
	mu       sync.Mutex
	users    int
	endpoint string
	stop     func()
}

// Shared returns the endpoint of the process's store, started for the first test
// that asks and stopped when the last one ends. Tests that run side by side use
// buckets of their own.
func Shared(t testing.TB) (endpoint string) {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users == 0 {
		at, stop, err := Start()
		if err != nil {
			t.Fatal(err)
		}
		shared.endpoint, shared.stop = at, stop
	}
	shared.users++
	t.Cleanup(func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if shared.users--; shared.users == 0 {
			shared.stop()
		}
	})
	return shared.endpoint
}
