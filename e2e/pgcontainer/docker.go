//go:build e2e

package pgcontainer

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// The labels tell which test process a container belongs to.
const (
	hostLabel = "freehold.e2e.host"
	pidLabel  = "freehold.e2e.pid"
)

func ownerLabels() map[string]string {
	host, _ := os.Hostname()
	return map[string]string{hostLabel: host, pidLabel: strconv.Itoa(os.Getpid())}
}

var prepared = sync.OnceValue(func() error {
	// Leftovers are swept here, so that no second image, that of a reaper, has
	// to be had.
	settings := map[string]string{"TESTCONTAINERS_RYUK_DISABLED": "true"}
	if host := os.Getenv("DOCKER_HOST"); host == "" || strings.HasPrefix(host, "unix:") {
		// Inside a container the library guesses a gateway, where no published
		// port of a daemon on this machine is.
		settings["TESTCONTAINERS_HOST_OVERRIDE"] = "127.0.0.1"
	}
	for name, value := range settings {
		if _, set := os.LookupEnv(name); set {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	// Once for all tests of the process, so it is no test's context.
	return sweep(context.Background())
})

// prepareDocker makes sure that Docker answers and, once a test process, removes
// what a killed one has left.
func prepareDocker(t testing.TB) {
	t.Helper()
	if err := prepared(); err != nil {
		t.Fatalf("the end-to-end tests need Docker; start it, or set DOCKER_HOST: %v", err)
	}
}

// sweep removes containers of this machine's test processes that no longer run.
func sweep(ctx context.Context) error {
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return err
	}
	defer docker.Close()
	found, err := docker.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: client.Filters{}.Add("label", hostLabel+"="+ownerLabels()[hostLabel]),
	})
	if err != nil {
		return err
	}
	for _, c := range found.Items {
		pid, err := strconv.Atoi(c.Labels[pidLabel])
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		// Another test process may be sweeping too; what is left is harmless.
		_, _ = docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	}
	return nil
}
