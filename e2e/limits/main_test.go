package limits_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"freehold/cmd/freehold/app"
	"freehold/migrations/pgtest"
)

// nodeEnv, when set, makes a serving node of this process, as `freehold serve` is
// one; withWorkers also has it do the periodic work. SIGTERM ends it in order.
const (
	nodeEnv     = "FREEHOLD_LIMITS_NODE"
	withWorkers = "workers"
)

func TestMain(m *testing.M) {
	kind := os.Getenv(nodeEnv)
	if kind == "" {
		pgtest.Patient()
		// The store's HTTP server keeps a clock for the life of the process, and a
		// sweeper that sleeps on for up to 10 s after its end.
		pgtest.MainLeak(m,
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
		return
	}
	if err := beNode(kind == withWorkers); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// address is what a node prints once it serves.
type address struct{ API string }

func beNode(workers bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := app.FromEnv(os.Getenv)
	return app.Serve(ctx, cfg, "test", workers, cfg.Logger(false), func(api, _ net.Addr) {
		_ = json.NewEncoder(os.Stdout).Encode(address{"http://" + api.String()})
	})
}
