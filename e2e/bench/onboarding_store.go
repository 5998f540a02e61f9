package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"freehold/tenantdb/blob"
)

// objectStore is an S3 server as a child process, on loopback. Stop it.
type objectStore struct {
	cmd  *exec.Cmd
	log  bytes.Buffer // read it once the process has ended
	done chan struct{}
	blob *blob.Store

	endpoint string
}

const bucket = "freehold-bench"

// store is the object store, which the first who needs it starts.
func (h *hatchery) store(ctx context.Context) (*blob.Store, error) {
	if h.s3 != nil {
		return h.s3.blob, nil
	}
	program, err := h.build(ctx, "freehold/e2e/s3server")
	if err != nil {
		return nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := free.Addr().String()
	_ = free.Close()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "bench-access", "AWS_SECRET_ACCESS_KEY": newPassword(), "AWS_REGION": "us-east-1",
		"AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE":           os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	s := &objectStore{done: make(chan struct{}), endpoint: "http://" + address}
	// Its end is stop's, whatever becomes of ctx.
	s.cmd = exec.Command(program, address, filepath.Join(h.folder, "objects"), bucket)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the object store: %w", err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	if s.blob, err = s.await(ctx, s.endpoint); err != nil {
		s.stop()
		return nil, fmt.Errorf("start the object store: %w: %s", err, strings.TrimSpace(s.log.String()))
	}
	h.s3 = s
	return s.blob, nil
}

func (s *objectStore) await(ctx context.Context, endpoint string) (*blob.Store, error) {
	for end := time.Now().Add(20 * time.Second); ; {
		store, err := blob.Open(ctx, blob.Config{Endpoint: endpoint, Bucket: bucket}, false)
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return store, err
		}
		select {
		case <-s.done:
			return nil, errors.New("it ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *objectStore) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}
