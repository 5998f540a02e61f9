//go:build e2e

package sdk_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The official SDKs work unchanged, each as a tenant of its own on one platform.
func TestSDK(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	for name, c := range map[string]struct {
		slug string
		run  func(*testing.T, *ground)
	}{
		"go":   {"acme", testGo},
		"node": {"globex", testNode},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.run(t, p.ground(t, c.slug))
		})
	}
}
