// Command freehold is the whole platform: its doors, its workers and its
// operators' commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"freehold/cmd/freehold/cli"
)

// version is set by the linker.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
