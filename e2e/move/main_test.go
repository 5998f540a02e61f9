package move_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"freehold/cmd/freehold/cli"
	"freehold/migrations/pgtest"
)

// programEnv, when set, makes this process the program: cmd/freehold, which need not
// be linked anew for it.
const programEnv = "FREEHOLD_MOVE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := cli.Run(ctx, "test", os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	pgtest.Patient()
	// The store's HTTP server keeps a clock for the life of the process, and a
	// sweeper that sleeps on for up to 10 s after its end.
	pgtest.MainLeak(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}
