//go:build linux || darwin || freebsd || netbsd || openbsd

package cli

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const singleKeys = true

// readKeys hands over what is typed until ctx ends or the terminal does. It looks
// before it reads, so that it never waits for a key that doesn't come.
func readKeys(ctx context.Context, in *os.File, keys chan<- byte) {
	fd := int(in.Fd())
	for ctx.Err() == nil {
		var ready unix.FdSet
		ready.Set(fd)
		patience := unix.NsecToTimeval(100e6)
		n, err := unix.Select(fd+1, &ready, nil, nil, &patience)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if n < 1 {
			continue
		}
		var key [1]byte
		if got, err := unix.Read(fd, key[:]); err != nil || got != 1 {
			return
		}
		select {
		case keys <- key[0]:
		case <-ctx.Done():
		}
	}
}
