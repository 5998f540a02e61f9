package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// superuser is the role that initdb makes.
const superuser = "postgres"

// Config says what to start. DataDir is required; zero elsewhere means the
// default.
type Config struct {
	DataDir        string       // the cluster and what belongs to it; made when missing
	MaxConnections int          // default 200
	NoSync         bool         // trades all durability for speed: tests only
	Logger         *slog.Logger // default: none
	Notice         io.Writer    // gets one line when the cluster can't be in DataDir; default: none
	Port           int          // default: the one used before when it is free, else any
}

func (c Config) withDefaults() Config {
	if c.MaxConnections == 0 {
		c.MaxConnections = 200
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("DataDir is required"))
	}
	if c.MaxConnections < 10 || c.MaxConnections > 10000 {
		errs = append(errs, errors.New("MaxConnections must be 10 to 10000"))
	}
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, errors.New("Port must be 0 to 65535"))
	}
	return errors.Join(errs...)
}

// Server is a running Postgres. Whoever started it stops it.
type Server struct {
	bin      Binaries
	port     int
	password string
	folder   *folder
	sockets  string
	proc     *process
	logger   *slog.Logger
	cleanup  sync.Once
	done     chan struct{}
}

// Start starts the server on 127.0.0.1, with its cluster in cfg.DataDir, made
// when there is none, and returns when the server has answered a query. A
// server that crashed recovers first, which may take as long as ctx allows.
// The binaries are those of Find, or others found that fit the cluster.
//
// Errors: ErrNotFound without binaries that fit, ErrInUse when another server
// has the folder.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure postgres: %w", err)
	}
	s, err := start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, cfg Config) (_ *Server, err error) {
	began := time.Now()
	bin, err := find(0, nil)
	if err != nil {
		return nil, err
	}
	who, err := serverAccount()
	if err != nil {
		return nil, err
	}
	f, err := openFolder(ctx, cfg.DataDir, who, bin, elsewhere(cfg), cfg.Notice)
	if err != nil {
		return nil, err
	}
	s := &Server{folder: f, logger: cfg.Logger, done: make(chan struct{})}
	defer func() {
		if err != nil {
			s.tidy()
		}
	}()
	if s.bin, err = f.prepare(ctx, bin, cfg); err != nil {
		return nil, err
	}
	if s.password, err = f.password(); err != nil {
		return nil, fmt.Errorf("read superuser's password: %w", err)
	}
	if s.sockets, err = f.sockets(); err != nil {
		return nil, fmt.Errorf("make socket's folder: %w", err)
	}
	if err = s.launch(ctx, cfg); err != nil {
		return nil, err
	}
	go s.watch()
	s.logger.Info("postgres started", "port", s.port, "version", s.bin.Version,
		"folder", f.dir, "dur_ms", time.Since(began).Milliseconds())
	return s, nil
}

// prepare sees to it that there is a cluster, and returns the binaries for it.
func (f *folder) prepare(ctx context.Context, bin Binaries, cfg Config) (Binaries, error) {
	major, err := clusterMajor(f.dir)
	if err != nil {
		return Binaries{}, err
	}
	if major == 0 {
		return bin, f.initialize(ctx, bin, !cfg.NoSync)
	}
	if major != bin.Major {
		fitting, err := find(major, nil)
		if err != nil {
			return Binaries{}, fmt.Errorf("the cluster in %s was made by Postgres %d, which this machine doesn't have "+
				"(it has %s): install that version, or move the folder away: %w", f.dir, major, bin.Version, err)
		}
		bin = fitting
	}
	return bin, f.clearStalePID()
}

// elsewhere are the folders for a cluster that can't be in cfg.DataDir.
func elsewhere(cfg Config) []string {
	if cfg.NoSync {
		return []string{os.TempDir()}
	}
	// Data of a developer survives a reboot, so temporary folders come last.
	return []string{"/var/lib/freehold", "/var/tmp/freehold"}
}

// watch closes done once the server has ended and left nothing behind.
func (s *Server) watch() {
	<-s.proc.done
	s.tidy()
	s.logger.Info("postgres ended", "port", s.port)
	close(s.done)
}

func (s *Server) tidy() {
	s.cleanup.Do(func() {
		removeSockets(s.sockets)
		s.folder.release()
	})
}

// URL is a connection string for the superuser, password included, over TCP.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port is the port on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// Binaries are the programs of the running version, which is the right one for
// pg_dump and psql too.
func (s *Server) Binaries() Binaries { return s.bin }

// Folder is where the cluster and its log are: DataDir, unless the server's
// account couldn't reach that.
func (s *Server) Folder() string { return s.folder.dir }

// Done is closed when the server has ended, asked or not.
func (s *Server) Done() <-chan struct{} { return s.done }

// The steps of a stop: each gets the time named, then comes the next.
const (
	fastStop      = 3 * time.Second // sessions ended, a checkpoint written
	immediateStop = time.Second     // nothing written: the next start recovers
)

// Stop ends the server, sessions included, and waits for it: in order, or at
// once when that takes long or when ctx ends. It may be called again. The
// error says that the server had to be killed.
func (s *Server) Stop(ctx context.Context) error {
	s.proc.signal(syscall.SIGINT)
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	case <-time.After(fastStop):
	}
	s.proc.signal(syscall.SIGQUIT)
	select {
	case <-s.done:
		return nil
	case <-time.After(immediateStop):
	}
	s.proc.signal(syscall.SIGKILL)
	<-s.done
	return fmt.Errorf("stop postgres: had to be killed; its log is %s", filepath.Join(s.folder.dir, "postgres.log"))
}
