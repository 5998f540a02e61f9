// Package blobtest runs an S3 store inside a test process: the real protocol over
// loopback, objects in a temporary folder. It is for tests alone and never linked
// into the program.
package blobtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	"freehold/migrations/localpg"
)

// Secret is the store's secret key, for tests that look for it where it must not be.
const Secret = "blobtest-secret"

const (
	access     = "blobtest-access"
	startTries = 5 // a free port can be taken before it is used
	startTime  = 10 * time.Second
)

// Start runs a store and points the AWS SDK's environment of this process at it.
// The gateway keeps globals, so a process has one at a time, and until stop the
// process's working directory is the store's. stop removes the objects.
func Start() (endpoint string, stop func(), err error) {
	for range startTries {
		if endpoint, stop, err = start(); err == nil {
			return endpoint, stop, setenv()
		}
	}
	return "", nil, fmt.Errorf("blobtest: %w", err)
}

func start() (endpoint string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "freehold-blobtest-")
	if err != nil {
		return "", nil, err
	}
	// The backend moves the whole process into its folder.
	cwd, err := os.Getwd()
	clean := func() { _, _ = os.Chdir(cwd), os.RemoveAll(dir) }
	data, side := filepath.Join(dir, "data"), filepath.Join(dir, "meta")
	addr := fmt.Sprintf("127.0.0.1:%d", localpg.FreePort(0))
	if err = errors.Join(err, os.Mkdir(data, 0o700), os.Mkdir(side, 0o700)); err != nil {
		clean()
		return "", nil, err
	}
	sidecar, err := meta.NewSideCar(side) // not every temporary folder has extended attributes
	if err != nil {
		clean()
		return "", nil, err
	}
	backend, err := posix.New(data, sidecar, posix.PosixOpts{SideCarDir: side})
	if err != nil {
		clean()
		return "", nil, err
	}
	// A store outlives the test that needs it first, and ends by stop.
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
			RootUserAccess: access, RootUserSecret: Secret, Ports: []string{addr},
			MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 10000,
			KeepAlive: true, Quiet: true, HealthPath: "/healthz",
		})
	}()
	if err := ready("http://"+addr+"/healthz", done); err != nil {
		cancel()
		clean()
		return "", nil, err
	}
	return "http://" + addr, func() { cancel(); <-done; clean() }, nil
}

// ready waits until the store answers, or has ended.
func ready(url string, done <-chan error) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.After(startTime)
	for {
		resp, err := client.Get(url)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case ended := <-done:
			return errors.Join(errors.New("the store ended"), ended)
		case <-deadline:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func setenv() (err error) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": Secret, "AWS_REGION": "us-east-1",
		"AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE":           os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		err = errors.Join(err, os.Setenv(name, value))
	}
	return err
}
