package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Ports of our own choice lie below those that systems give to outgoing
// connections (32768 and up on Linux, 49152 elsewhere), so that no client's
// passing connection takes one between the look and the start.
const (
	firstPort = 20000
	lastPort  = 32767
	attempts  = 5
)

// launch starts the server and waits until it answers. A port that was free a
// moment ago can be taken when the server gets to it; Postgres doesn't say so
// in a form made for programs, so any early end is tried again on another port
// when the choice was ours.
func (s *Server) launch(ctx context.Context, cfg Config) error {
	last, err := s.folder.read("port")
	if err != nil {
		return fmt.Errorf("read last port: %w", err)
	}
	preferred := leadingNumber(last)
	for attempt := 1; ; attempt++ {
		s.port = cfg.Port
		if s.port == 0 {
			s.port = FreePort(preferred)
			preferred = 0
		}
		err := s.launchOnce(ctx, cfg)
		if err == nil {
			return s.folder.write("port", strconv.Itoa(s.port))
		}
		var early *endedError
		if !errors.As(err, &early) || cfg.Port != 0 || attempt == attempts {
			return err
		}
	}
}

// FreePort returns a port of loopback that is free now, the preferred one if it is. It
// lies below those that the system gives to whoever asks for any, so that nobody else
// is given it before it is used.
func FreePort(preferred int) int {
	port := preferred
	for range 100 {
		if port > 0 {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // it doesn't wait for anything
			if err == nil {
				_ = l.Close()
				return port
			}
		}
		port = firstPort + rand.IntN(lastPort-firstPort+1) //nolint:gosec // not a secret
	}
	return port // the server will say what is wrong with it
}

// endedError says that the server ended before it answered.
type endedError struct {
	status error
	log    string
}

func (e *endedError) Error() string {
	return fmt.Sprintf("server ended (%v): %s", e.status, e.log)
}

func (s *Server) launchOnce(ctx context.Context, cfg Config) error {
	log, err := s.folder.openLog()
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	cmd := exec.Command(s.bin.Path("postgres"), s.arguments(cfg)...)
	cmd.Env = environment()
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{s.folder.lock} // see folder.acquire
	cmd.SysProcAttr = s.folder.who.attributes()
	// SIGQUIT ends a server at once, whatever its sessions do; the next start
	// recovers. A polite stop could be held up with nobody left to insist.
	if s.proc, err = spawn(cmd, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	if err := s.awaitReady(ctx); err != nil {
		s.proc.signal(syscall.SIGQUIT)
		<-s.proc.done
		var early *endedError
		if errors.As(err, &early) {
			early.status = s.proc.err
			early.log = lastLines(s.folder.logSince(before), 5)
		}
		return err
	}
	return nil
}

// arguments are the server's settings. Its log names neither statements nor
// rows: both can hold what tenants wrote.
func (s *Server) arguments(cfg Config) []string {
	settings := []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(s.port),
		"unix_socket_directories=" + s.sockets,
		"max_connections=" + strconv.Itoa(cfg.MaxConnections),
		"wal_level=logical",
		// Each database that moves takes a worker that follows, and some that copy.
		"max_wal_senders=40",
		"max_replication_slots=40",
		"max_logical_replication_workers=24",
		"max_worker_processes=36",
		"wal_retrieve_retry_interval=200ms", // such workers are started no more often, one after the other
		"logging_collector=off",
		"log_destination=stderr",
		"log_min_error_statement=panic",
		"log_error_verbosity=terse",
	}
	if runtime.GOOS == "linux" {
		// After a crash the default opens and syncs each file of each database,
		// minutes of it with a thousand tenants.
		settings = append(settings, "recovery_init_sync_method=syncfs")
	}
	if cfg.NoSync {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off",
			// Checkpoints cost nothing here, and the log may lie in memory.
			"min_wal_size=32MB", "max_wal_size=256MB")
	}
	args := []string{"-D", s.folder.pgdata()}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return args
}

// awaitReady returns when a query has been answered.
func (s *Server) awaitReady(ctx context.Context) error {
	cfg, err := pgx.ParseConfig(s.URL(superuser))
	if err != nil {
		return errors.New("address of the new server doesn't parse") // the cause would name the password
	}
	// The port can belong to somebody who accepts and says nothing. Our server
	// has ended by then, and that ends the attempt.
	attempt, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-s.proc.done:
			cancel()
		case <-attempt.Done():
		}
	})
	defer watching.Wait()
	defer cancel()
	for {
		err := answer(attempt, cfg)
		if err == nil {
			return nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != cannotConnectNow {
			// It may be another server that took the port first; ours ends then.
			select {
			case <-s.proc.done:
				return &endedError{}
			case <-time.After(2 * time.Second):
				return fmt.Errorf("log in as superuser: %w", err)
			}
		}
		select {
		case <-s.proc.done:
			return &endedError{}
		case <-ctx.Done():
			return fmt.Errorf("wait for server: %w", ctx.Err())
		case <-time.After(poll):
		}
	}
}

const cannotConnectNow = "57P03" // starting up, recovering, shutting down

func answer(ctx context.Context, cfg *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "select 1")
	return errors.Join(err, conn.Close(ctx))
}

// logSince is what the server has logged after a position.
func (f *folder) logSince(position int64) string {
	file, err := os.Open(filepath.Join(f.dir, "postgres.log"))
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(position, io.SeekStart); err != nil {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(file, 64<<10))
	return string(text)
}
