// Command s3server is an object store that speaks S3, for tests of a Freehold
// that must find one rather than start one. It serves one bucket on a loopback
// address until it is interrupted:
//
//	AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… s3server ADDRESS FOLDER BUCKET
//
// GET /healthz answers 200 when it can serve.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "s3server:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: s3server ADDRESS FOLDER BUCKET")
	}
	address, root, side := args[0], filepath.Join(args[1], "objects"), filepath.Join(args[1], "metadata")
	// To the gateway, each folder of its root is a bucket.
	for _, dir := range []string{filepath.Join(root, args[2]), side} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// Beside the objects, since not every temporary folder has extended attributes.
	metadata, err := meta.NewSideCar(side)
	if err != nil {
		return err
	}
	store, err := posix.New(root, metadata, posix.PosixOpts{SideCarDir: side})
	if err != nil {
		return err
	}
	err = embedgw.RunVersityGW(ctx, store, &embedgw.Config{
		RootUserAccess:    os.Getenv("AWS_ACCESS_KEY_ID"),
		RootUserSecret:    os.Getenv("AWS_SECRET_ACCESS_KEY"),
		Ports:             []string{address},
		MaxConnections:    256,
		MaxRequests:       256,
		MultipartMaxParts: 10000,
		HealthPath:        "/healthz",
		KeepAlive:         true,
		Quiet:             true,
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
