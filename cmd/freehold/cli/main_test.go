package cli_test

import (
	"testing"

	"go.uber.org/goleak"

	"freehold/migrations/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.MainLeak(m, goleak.IgnoreAnyFunction("os/signal.loop"))
}
