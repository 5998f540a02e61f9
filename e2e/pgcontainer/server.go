//go:build e2e

package pgcontainer

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/modules/postgres"

	"freehold/e2e/child"
)

// Admin is the role that Freehold gets: LOGIN, CREATEDB and CREATEROLE, and
// nothing else.
const Admin = "freehold_admin"

const (
	superuser = "postgres"
	// readyWithin covers initdb on a busy machine.
	readyWithin = 90 * time.Second
)

// Options of a server.
type Options struct {
	// TLS makes the server speak TLS with a certificate for 127.0.0.1 and
	// localhost, and its URLs ask for sslmode=verify-full.
	TLS bool
	// Settings are more server settings, each "name=value".
	Settings []string
	// Image is run instead of the one in FREEHOLD_E2E_IMAGE.
	Image string
	// OnHost has the server listen on a loopback port of this machine itself, where
	// other such servers reach it too, and which stays the same when it starts again.
	OnHost bool
}

// Server is a running container.
type Server struct {
	// CAFile is what clients verify the server with; empty without TLS.
	CAFile string

	container                *postgres.PostgresContainer
	superSecret, adminSecret string
	address                  string // changes when the container starts again, unless onHost
	onHost                   bool
}

// Start runs a container of the image in FREEHOLD_E2E_IMAGE (postgres:15 without
// it, the oldest that Freehold supports), with 200 connections and logical
// WAL, and returns when it answers. The container is removed when the test ends;
// a failed test logs what the server printed.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	prepareDocker(t)
	image := cmp.Or(opts.Image, os.Getenv("FREEHOLD_E2E_IMAGE"), "postgres:15")
	s := &Server{superSecret: rand.Text(), adminSecret: rand.Text(), onHost: opts.OnHost}
	settings := append([]string{"max_connections=200", "wal_level=logical", "fsync=off"}, opts.Settings...)
	if s.onHost {
		settings = append(settings, "listen_addresses=127.0.0.1")
	}
	var args []string
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	customize := []testcontainers.ContainerCustomizer{
		postgres.WithUsername(superuser),
		postgres.WithPassword(s.superSecret),
		testcontainers.WithCmd(append([]string{"postgres"}, args...)...),
		testcontainers.WithLabels(ownerLabels()),
		testcontainers.WithLogger(log.NewNoopLogger()),
	}
	if opts.TLS {
		customize = append(customize, s.withTLS(t))
	}
	if s.onHost {
		customize = append(customize, s.withHostPort(t))
	}

	container, err := postgres.Run(t.Context(), image, customize...)
	s.container = container
	t.Cleanup(func() { s.remove(t) })
	if err != nil {
		t.Fatalf("start a Postgres container of %s: %v", image, err)
	}
	s.await(t)
	s.prepare(t)
	return s
}

// AdminURL is where Admin reaches the database.
func (s *Server) AdminURL(database string) string { return s.url(Admin, s.adminSecret, database) }

// SuperURL is where the superuser reaches the database.
func (s *Server) SuperURL(database string) string { return s.url(superuser, s.superSecret, database) }

func (s *Server) url(user, secret, database string) string {
	query := "sslmode=disable"
	if s.CAFile != "" {
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.CAFile}}.Encode()
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, secret), Host: s.address, Path: "/" + database, RawQuery: query}
	return u.String()
}

// Exec runs statements as the superuser, each in a transaction of its own.
func (s *Server) Exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	conn := s.connect(t, s.SuperURL(database))
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// Stop stops the server as an outage would: connections break, data stays.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	grace := 10 * time.Second
	if err := s.container.Stop(t.Context(), &grace); err != nil {
		t.Fatal(err)
	}
}

// Resume starts a stopped server again and returns when it answers. Its port is
// another one then, and so are its URLs.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	if err := s.container.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.await(t)
}

// withHostPort chooses the port of a server that is OnHost, which its programs read
// from PGPORT.
func (s *Server) withHostPort(t testing.TB) testcontainers.ContainerCustomizer {
	t.Helper()
	s.address = child.FreeAddr()
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	return testcontainers.CustomizeRequest(testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			Env:                map[string]string{"PGPORT": port},
			HostConfigModifier: func(c *container.HostConfig) { c.NetworkMode = "host" },
		},
	})
}

// await reads the published address and waits for an answer. While the image
// sets its database up, the server listens on its socket alone, so an answer
// means that the set-up is over.
func (s *Server) await(t testing.TB) {
	t.Helper()
	if !s.onHost {
		address, err := s.container.PortEndpoint(t.Context(), "5432/tcp", "")
		if err != nil {
			t.Fatal(err)
		}
		s.address = address
	}
	ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.SuperURL("postgres"))
		if err == nil {
			_ = conn.Close(ctx)
			return
		}
		if state, stateErr := s.container.State(ctx); stateErr == nil && !state.Running {
			t.Fatalf("the Postgres container ended with status %d", state.ExitCode)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("Postgres doesn't answer within %v: %v", readyWithin, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// prepare makes the admin role and does what the operator's superuser does once
// a server.
func (s *Server) prepare(t testing.TB) {
	t.Helper()
	conn := s.connect(t, s.SuperURL("postgres"))
	var create string
	err := conn.QueryRow(t.Context(),
		`select format('create role %I login createdb createrole password %L', $1::text, $2::text)`,
		Admin, s.adminSecret).Scan(&create)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		create,
		`revoke connect on database postgres, template1 from public`,
		`grant connect on database postgres to ` + Admin,
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			// Without the statement, which may hold the password.
			t.Fatalf("prepare the server: %v", err)
		}
	}
}

// connect opens a connection that is closed with the test.
func (s *Server) connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// remove removes the container, also one that never became ready.
func (s *Server) remove(t testing.TB) {
	if s.container == nil {
		return
	}
	// The test's own context has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	if t.Failed() {
		if logs, err := s.container.Logs(ctx); err == nil {
			text, _ := io.ReadAll(logs)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			t.Logf("Postgres printed at last:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	}
	if err := s.container.Terminate(ctx, testcontainers.StopTimeout(0)); err != nil {
		t.Errorf("remove the Postgres container: %v", err)
	}
}
