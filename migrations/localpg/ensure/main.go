// Command ensure makes sure that this machine has a Postgres for development
// and tests: it exits 0 at once when there is one, and else installs it with
// the system's package manager, unless FREEHOLD_PG_BIN names one that won't do.
// The Makefile runs it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"freehold/migrations/localpg"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := ensure(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ensure:", err)
		os.Exit(1)
	}
}

func ensure(ctx context.Context) error {
	if _, err := localpg.Find("psql", "pg_dump"); err == nil {
		return nil
	}
	if os.Getenv("FREEHOLD_PG_BIN") != "" {
		return chosen() // nothing that could be installed would change that folder
	}
	return localpg.Install(ctx, os.Stdin, os.Stderr)
}

// chosen checks the operator's Postgres, which may have its psql elsewhere.
func chosen() error {
	server, err := localpg.Find()
	if err != nil {
		return err
	}
	_, err = localpg.FindClient("psql", server.Major)
	return err
}
