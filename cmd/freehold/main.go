// Command freehold is the whole platform: its doors, its workers and its
// operators' commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"freehold/cmd/freehold/cli"
	"freehold/inference/finetune/builtin"
	"freehold/inference/finetune/child"
)

// version is set by the linker.
var version = "devel"

func main() {
	child.Guard()  // this process may be what a trainer runs under,
	builtin.Main() // or the built-in trainer itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
