package finetune_test

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
	"freehold/inference/finetune/builtin"
	"freehold/inference/finetune/child"
	"freehold/migrations/pgtest"
)

// nodeEnv, when set, makes a serving node with workers of this process, as
// `freehold serve` is one. SIGTERM ends it in order.
const nodeEnv = "FREEHOLD_FINETUNE_NODE"

func TestMain(m *testing.M) {
	child.Guard()  // this process may be what a trainer runs under,
	builtin.Main() // or the built-in trainer itself
	if os.Getenv(nodeEnv) == "" {
		pgtest.Patient()
		// The store's HTTP server keeps a clock for the life of the process, and a
		// sweeper that sleeps on for up to 10 s after its end.
		pgtest.MainLeak(m,
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
		return
	}
	if err := beNode(); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// address is what a node prints once it serves.
type address struct{ API string }

func beNode() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := app.FromEnv(os.Getenv)
	return app.Serve(ctx, cfg, "test", true, cfg.Logger(false), func(api, _ net.Addr) {
		_ = json.NewEncoder(os.Stdout).Encode(address{"http://" + api.String()})
	})
}
