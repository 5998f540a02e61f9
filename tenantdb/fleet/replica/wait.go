package replica

import (
	"context"
	"fmt"
	"time"
)

const (
	poll = 10 * time.Millisecond
	// patience is for how long the end of a worker or a session is waited for.
	patience = 30 * time.Second
)

// await asks until it is so: ErrBusy after patience, ctx's error when that ends first.
func await(ctx context.Context, done func() (bool, error)) error {
	end := time.Now().Add(patience)
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		if time.Now().After(end) {
			return ErrBusy
		}
		if err := rest(ctx, poll); err != nil {
			return err
		}
	}
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// wrap says what was being done when there is an error.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
