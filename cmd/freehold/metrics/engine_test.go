package metrics_test

import (
	"testing"

	"freehold/cmd/freehold/metrics"
	"freehold/router"
)

func TestBreakers(t *testing.T) {
	t.Parallel()
	m := metrics.New("v1", func(int) router.View { return router.View{} })
	states := map[string]string{"vllm": "closed"}
	m.Breakers(func() map[string]string { return states })
	wants(t, text(t, m), `freehold_engine_breaker_open{engine="vllm"} 0`)
	states = map[string]string{"vllm": "open", "spare": "half-open"}
	wants(t, text(t, m), `freehold_engine_breaker_open{engine="vllm"} 1`, `freehold_engine_breaker_open{engine="spare"} 0.5`)
}
