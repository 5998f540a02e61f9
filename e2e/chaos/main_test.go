package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"freehold/migrations/pgtest"
)

// nodeEnv, when set, makes a node of this process, which is told by standard
// input what to do. SIGTERM ends it in order.
const nodeEnv = "FREEHOLD_CHAOS_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(nodeEnv) == "" {
		pgtest.MainLeak(m)
		return
	}
	if err := beNode(); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func beNode() error {
	var s spec
	if err := json.NewDecoder(os.Stdin).Decode(&s); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, s); err != nil {
		return err
	}
	return goleak.Find()
}
