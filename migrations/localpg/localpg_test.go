package localpg_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"freehold/migrations/localpg"
	"freehold/migrations/pgtest"
)

const parentEnv = "LOCALPG_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		beParent(dir)
	}
	goleak.VerifyTestMain(m)
}

// beParent starts a server, tells of it, and waits to be killed.
func beParent(dir string) {
	s, err := localpg.Start(context.Background(), localpg.Config{DataDir: dir, NoSync: true})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("ready", s.Port())
	select {}
}

func start(t *testing.T, cfg localpg.Config) *localpg.Server {
	t.Helper()
	cfg.NoSync = true
	s, err := localpg.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *localpg.Server) time.Duration {
	t.Helper()
	began := time.Now()
	// The test's own context has ended when its cleanups run.
	if err := s.Stop(context.Background()); err != nil {
		t.Errorf("stop: %v", err)
	}
	return time.Since(began)
}

func query[T any](t *testing.T, s *localpg.Server, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var value T
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func TestStart(t *testing.T) {
	t.Parallel()
	dir := pgtest.TempDir(t)
	s := start(t, localpg.Config{DataDir: dir, MaxConnections: 77})

	if got := query[string](t, s, "show wal_level"); got != "logical" {
		t.Errorf("wal_level = %s", got)
	}
	if got := query[string](t, s, "show max_connections"); got != "77" {
		t.Errorf("max_connections = %s", got)
	}
	if got := query[string](t, s, "select rolpassword from pg_authid where rolname = 'postgres'"); !strings.HasPrefix(got, "SCRAM-SHA-256$") {
		t.Error("the superuser's password isn't kept as SCRAM")
	}
	version := query[string](t, s, "show server_version")
	if b := s.Binaries(); !strings.HasPrefix(version, b.Version) {
		t.Errorf("binaries are %s, server is %s", b.Version, version)
	}
	info, err := os.Stat(filepath.Join(s.Folder(), "password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", info.Mode(), err)
	}
	sockets := query[string](t, s, "show unix_socket_directories")
	if path := sockets + "/.s.PGSQL.65535.lock"; len(path) > 100 {
		t.Errorf("socket path %s is long", path)
	}
	if s.Folder() != dir {
		t.Errorf("folder = %s, want %s", s.Folder(), dir)
	}
	refusesWrongPassword(t, s, "127.0.0.1")
	refusesWrongPassword(t, s, sockets)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := localpg.Start(ctx, localpg.Config{DataDir: dir, NoSync: true}); !errors.Is(err, localpg.ErrInUse) {
		t.Errorf("second start on the folder: %v", err)
	}

	if took := stop(t, s); took > 4*time.Second {
		t.Errorf("stop took %v", took)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done isn't closed after Stop")
	}
	if _, err := os.Stat(sockets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket folder after stop: %v", err)
	}
}

func refusesWrongPassword(t *testing.T, s *localpg.Server, host string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.Password = host, "wrong"
	if conn, err := pgx.ConnectConfig(t.Context(), cfg); err == nil {
		_ = conn.Close(t.Context())
		t.Errorf("%s let a wrong password in", host)
	}
}

func TestRestartKeepsDataAndPort(t *testing.T) {
	t.Parallel()
	cfg := localpg.Config{DataDir: pgtest.TempDir(t)}
	first := start(t, cfg)
	exec1(t, first, "create table kept as select 42 as n")
	stop(t, first)

	second := start(t, cfg)
	if got := query[int](t, second, "select n from kept"); got != 42 {
		t.Errorf("kept %d", got)
	}
	if first.Port() != second.Port() {
		t.Errorf("port was %d, is %d, and nobody took it", first.Port(), second.Port())
	}
	stop(t, second)

	// What a killed server leaves, with a number that another process has by now.
	name := filepath.Join(second.Folder(), "pgdata", "postmaster.pid")
	content := fmt.Sprintf("%d\n%s\n1\n%d\n/tmp\nlocalhost\n", os.Getppid(), second.Folder(), second.Port())
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	query[int](t, start(t, cfg), "select n from kept")
}

func exec1(t *testing.T, s *localpg.Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestStopWithOpenSessionsIsFast(t *testing.T) {
	t.Parallel()
	s := start(t, localpg.Config{DataDir: pgtest.TempDir(t)})
	busy := make(chan error, 1)
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
		busy <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if took := stop(t, s); took > 4*time.Second {
		t.Errorf("stop took %v", took)
	}
	if err := <-busy; err == nil {
		t.Error("the session outlived its server")
	}
}

func TestKilledParentLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := pgtest.TempDir(t)
	pid := startParentAndKill(t, dir)

	for deadline := time.Now().Add(5 * time.Second); !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH); {
		if time.Now().After(deadline) {
			t.Fatalf("postgres, process %d, outlived its parent by 5 s", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
	s := start(t, localpg.Config{DataDir: dir})
	query[int](t, s, "select 1")
}

// A server on the same folder may start at once: it waits for the other's end.
func TestRestartRightAfterKill(t *testing.T) {
	t.Parallel()
	dir := pgtest.TempDir(t)
	startParentAndKill(t, dir)
	s := start(t, localpg.Config{DataDir: dir})
	query[int](t, s, "select 1")
}

// startParentAndKill returns the server's process id.
func startParentAndKill(t *testing.T, dir string) int {
	t.Helper()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"="+dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready ") {
		t.Fatalf("parent said %q, %v", line, err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "pgdata", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it reports the kill
	return pid
}

func TestOtherMajor(t *testing.T) {
	t.Parallel()
	dir := pgtest.TempDir(t)
	if err := os.Mkdir(filepath.Join(dir, "pgdata"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pgdata", "PG_VERSION"), []byte("13\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := localpg.Start(t.Context(), localpg.Config{DataDir: dir, NoSync: true})
	if !errors.Is(err, localpg.ErrNotFound) || !strings.Contains(err.Error(), "was made by Postgres 13") {
		t.Errorf("start on another version's cluster: %v", err)
	}
}

func TestBadConfigNamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := localpg.Start(t.Context(), localpg.Config{MaxConnections: -1, Port: -1})
	for _, name := range []string{"DataDir", "MaxConnections", "Port"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error doesn't name %s: %v", name, err)
		}
	}
}

// As root the server runs as another account, which can't get into a folder
// like this one; as anybody else there is nothing to get around.
func TestUnreachableFolder(t *testing.T) {
	t.Parallel()
	closed := pgtest.TempDir(t) // made with mode 0700
	dir := filepath.Join(closed, "data")
	var notice strings.Builder
	cfg := localpg.Config{DataDir: dir, Notice: &notice}
	s := start(t, cfg)
	if os.Geteuid() != 0 {
		if s.Folder() != dir || notice.Len() > 0 {
			t.Errorf("folder = %s, notice %q", s.Folder(), notice.String())
		}
		return
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.Folder()) })
	if s.Folder() == dir {
		t.Fatal("the folder's parent is closed to others, yet it was used")
	}
	if n := strings.Count(notice.String(), "\n"); n != 1 || !strings.Contains(notice.String(), s.Folder()) {
		t.Errorf("notice = %q", notice.String())
	}
	exec1(t, s, "create table kept as select 1 as n")
	stop(t, s)

	notice.Reset()
	again := start(t, cfg)
	if again.Folder() != s.Folder() || notice.Len() > 0 {
		t.Errorf("restart went to %s, said %q", again.Folder(), notice.String())
	}
	query[int](t, again, "select n from kept")
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := taken.Addr().(*net.TCPAddr).Port
	_, err = localpg.Start(t.Context(), localpg.Config{DataDir: pgtest.TempDir(t), NoSync: true, Port: port})
	if err == nil || !strings.Contains(err.Error(), "server ended") {
		t.Errorf("start on a taken port: %v", err)
	}
}

func TestCancelledStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	dir := pgtest.TempDir(t)
	if _, err := localpg.Start(ctx, localpg.Config{DataDir: dir, NoSync: true}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("start: %v", err)
	}
	query[int](t, start(t, localpg.Config{DataDir: dir}), "select 1")
}
