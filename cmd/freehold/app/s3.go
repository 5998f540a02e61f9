package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// localS3 is the object store of `freehold dev`: versitygw in this process, on
// loopback, files under dir. One a process is all that the library allows, and
// its POSIX backend changes the working directory: every path that dev keeps is
// absolute for that reason.
type localS3 struct {
	endpoint string
	stop     context.CancelFunc
	done     chan error
}

// s3User is who may use the store.
type s3User struct {
	Access string `json:"access_key_id"`
	Secret string `json:"secret_access_key"`
}

const healthPath = "/health"

// startS3 starts the store, on the address that it had before if that is free:
// what another terminal or node knows of it stays true.
func startS3(ctx context.Context, dir, before string, user s3User) (*localS3, error) {
	root := filepath.Join(dir, "objects")
	side := filepath.Join(dir, "metadata")
	for _, d := range []string{root, side} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("start object store: %w", err)
		}
	}
	var store meta.MetadataStorer = meta.XattrMeta{}
	opts := posix.PosixOpts{}
	if err := (meta.XattrMeta{}).Test(root); err != nil {
		// File systems without extended attributes keep them in files beside.
		sidecar, err := meta.NewSideCar(side)
		if err != nil {
			return nil, fmt.Errorf("start object store: %w", err)
		}
		store, opts.SideCarDir = sidecar, side
	}
	backend, err := posix.New(root, store, opts)
	if err != nil {
		return nil, fmt.Errorf("start object store: %w", err)
	}
	addr, err := freeAddr(ctx, before)
	if err != nil {
		return nil, fmt.Errorf("start object store: %w", err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &localS3{endpoint: "http://" + addr, stop: stop, done: make(chan error, 1)}
	go func() {
		s.done <- embedgw.RunVersityGW(run, backend, &embedgw.Config{
			RootUserAccess: user.Access, RootUserSecret: user.Secret,
			// The library's own choice, made here because it prints when it makes it.
			IAMService: auth.NewIAMServiceSingle(auth.Account{Access: user.Access, Secret: user.Secret, Role: auth.RoleAdmin}),
			Ports:      []string{addr}, MaxConnections: 1000, MaxRequests: 500, MultipartMaxParts: 10000,
			HealthPath: healthPath, Quiet: true, KeepAlive: true,
		})
	}()
	if err := s.wait(ctx); err != nil {
		stop()
		return nil, err
	}
	return s, nil
}

// wait returns when the store answers.
func (s *localS3) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.endpoint+healthPath, nil)
		if err != nil {
			return fmt.Errorf("start object store: %w", err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-s.done:
			s.done <- err
			return fmt.Errorf("start object store: it ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("start object store: no answer: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// close stops the store and waits until it has stopped, or for ctx.
func (s *localS3) close(ctx context.Context) error {
	s.stop()
	select {
	case err := <-s.done:
		if err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("stop object store: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop object store: %w", ctx.Err())
	}
}

// freeAddr returns a free address on loopback, the preferred one if it is.
func freeAddr(ctx context.Context, preferred string) (string, error) {
	const loopback = "127.0.0.1:"
	var lc net.ListenConfig
	if strings.HasPrefix(preferred, loopback) {
		if ln, err := lc.Listen(ctx, "tcp", preferred); err == nil {
			return preferred, ln.Close()
		}
	}
	ln, err := lc.Listen(ctx, "tcp", loopback+"0")
	if err != nil {
		return "", err
	}
	addr := ln.Addr().String()
	return addr, ln.Close()
}
