package cli_test

import (
	"testing"

	"go.uber.org/goleak"

	"freehold/migrations/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.MainLeak(m,
		goleak.IgnoreAnyFunction("os/signal.loop"),
		// A door's own keepers of pools and of the date live as long as the process.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}
