package app_test

import (
	"testing"

	"go.uber.org/goleak"

	"freehold/migrations/pgtest"
)

// The doors' own keepers of pools and of the date live as long as the process.
func TestMain(m *testing.M) {
	pgtest.MainLeak(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}
