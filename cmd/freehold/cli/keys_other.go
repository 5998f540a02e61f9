//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd

package cli

import (
	"context"
	"os"
)

// singleKeys: keys don't come one by one here, so Ctrl-C is all that ends a live
// screen.
const singleKeys = false

func readKeys(context.Context, *os.File, chan<- byte) {}
