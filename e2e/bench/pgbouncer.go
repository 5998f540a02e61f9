package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// pgbouncer sets the router beside PgBouncer, which serves all tenants by its `*`
// entry and whose clients stay connected. The router's budget is what PgBouncer
// has opened on the server when it is warm.
func (a *arena) pgbouncer(ctx context.Context, b *bench) error {
	bouncer, err := startBouncer(ctx, a.platform)
	if err != nil {
		return err
	}
	defer bouncer.stop()
	clients, err := openArray(ctx, a.n, connsPerTenant, bouncer.clientConfig)
	if err != nil {
		return errors.Join(err, bouncer.complaint())
	}
	defer clients.close()
	for _, w := range works {
		if _, err := steady("PgBouncer", a.all, 64, clients.visit, w).turn(ctx, 0, b.opt.slot); err != nil {
			return errors.Join(err, bouncer.complaint())
		}
	}
	const bouncers = peerName + "pgbouncer"
	theirs, err := a.backends(ctx, bouncers)
	if err != nil {
		return err
	}
	if err := a.settle(ctx, routerName); err != nil {
		return err
	}
	r, err := a.newRouted(int(theirs), connsPerTenant, nil)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.visitAll(ctx, min(a.n, int(theirs))); err != nil {
		return err
	}

	at16 := a.against(16, a.all, "routed", r.visit, "PgBouncer", clients.visit)
	at64 := a.against(64, a.all, "routed", r.visit, "PgBouncer", clients.visit)
	var mostMine, mostTheirs int64
	for _, s := range sides(append(at16, at64...)...) {
		turn := s.turn
		s.turn = func(ctx context.Context, round int, d time.Duration) (float64, error) {
			rate, err := turn(ctx, round, d)
			mine, merr := a.backends(ctx, routerName)
			theirs, terr := a.backends(ctx, bouncers)
			mostMine, mostTheirs = max(mostMine, mine), max(mostTheirs, theirs)
			return rate, errors.Join(err, merr, terr)
		}
	}
	if err := errors.Join(
		b.play(ctx, "pgbouncer, 16 callers", sides(at16...)...),
		b.play(ctx, "pgbouncer, 64 callers", sides(at64...)...),
	); err != nil {
		return errors.Join(err, bouncer.complaint())
	}
	r.explain(b)
	return errors.Join(
		b.emitWorse("pgbouncer_16", atLeast(1.2), at16...),
		b.emitWorse("pgbouncer_64", atLeast(1.0), at64...),
		b.emit("pgbouncer_backends", "ratio", atMost(1), []float64{float64(mostMine) / float64(mostTheirs)},
			fmt.Sprintf("server connections at most, %d / %d", mostMine, mostTheirs)),
	)
}

// bouncer is a PgBouncer as a child process, on loopback. Stop it.
type bouncer struct {
	*platform
	folder string
	port   int
	cmd    *exec.Cmd
	log    bytes.Buffer // read it once the process has ended
	done   chan struct{}
}

// fileLimit is what a socket for each client and each server connection asks for.
const fileLimit = 16384

func startBouncer(ctx context.Context, p *platform) (_ *bouncer, err error) {
	path, err := findBouncer()
	if err != nil {
		return nil, err
	}
	// Set by us, it is passed on to the child.
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	limit.Cur = max(limit.Cur, min(limit.Max, fileLimit))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	b := &bouncer{platform: p, done: make(chan struct{})}
	if b.folder, err = os.MkdirTemp("", "freehold-bench-pgbouncer-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(b.folder)
		}
	}()
	attr, err := b.write()
	if err != nil {
		return nil, err
	}
	b.cmd = exec.Command(path, filepath.Join(b.folder, "pgbouncer.ini"))
	b.cmd.Env = []string{"LC_ALL=C"}
	b.cmd.Dir = "/"
	b.cmd.Stdout, b.cmd.Stderr = &b.log, &b.log
	b.cmd.SysProcAttr = attr
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start pgbouncer: %w", err)
	}
	go func() {
		_ = b.cmd.Wait()
		close(b.done)
	}()
	if err := b.await(ctx); err != nil {
		b.stop()
		return nil, errors.Join(err, b.complaint())
	}
	return b, nil
}

func findBouncer() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no pgbouncer on this machine; on Debian: apt-get install pgbouncer")
}

// write writes the configuration, and returns how to start the process: as nobody
// when this one is root, which PgBouncer refuses to be.
func (b *bouncer) write() (*syscall.SysProcAttr, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.port = free.Addr().(*net.TCPAddr).Port
	_ = free.Close()

	var users strings.Builder
	for _, t := range b.tenants {
		fmt.Fprintf(&users, "%q %q\n", t.Config.User, t.Config.Password)
	}
	ini := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = plain
auth_file = %s
pool_mode = transaction
default_pool_size = %d
max_client_conn = %d
server_idle_timeout = 3600
log_connections = 0
log_disconnections = 0
log_stats = 0
`, b.server.Port(), b.port, filepath.Join(b.folder, "users"), connsPerTenant, fileLimit/2)

	attr := &syscall.SysProcAttr{Setpgid: true}
	own := func(string) error { return nil }
	if os.Geteuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return nil, err
		}
		uid, uerr := strconv.Atoi(nobody.Uid)
		gid, gerr := strconv.Atoi(nobody.Gid)
		if err := errors.Join(uerr, gerr); err != nil {
			return nil, err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		own = func(path string) error { return os.Chown(path, uid, gid) }
	}
	for name, text := range map[string]string{"pgbouncer.ini": ini, "users": users.String()} {
		path := filepath.Join(b.folder, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), own(path)); err != nil {
			return nil, err
		}
	}
	return attr, own(b.folder)
}

// clientConfig is how a client logs in as a tenant. In transaction mode this
// PgBouncer knows no prepared statements, so each is sent as one simple message,
// which costs PgBouncer the least.
func (b *bouncer) clientConfig(tenant int) *pgx.ConnConfig {
	cfg := b.peerConfig(tenant, "pgbouncer")
	cfg.Port = uint16(b.port)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return cfg
}

func (b *bouncer) await(ctx context.Context) error {
	for end := time.Now().Add(5 * time.Second); ; {
		conn, err := pgx.ConnectConfig(ctx, b.clientConfig(0))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-b.done:
			return fmt.Errorf("pgbouncer ended: %s", b.cmd.ProcessState)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return errors.New("pgbouncer doesn't answer")
		}
	}
}

// complaint stops the process and returns the end of what it has said.
func (b *bouncer) complaint() error {
	b.stop()
	text := strings.TrimSpace(b.log.String())
	if len(text) > 500 {
		text = text[len(text)-500:]
	}
	return fmt.Errorf("pgbouncer's log ends: %s", text)
}

// stop may be called again.
func (b *bouncer) stop() {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.done:
	case <-time.After(5 * time.Second):
		_ = b.cmd.Process.Kill()
		<-b.done
	}
	_ = os.RemoveAll(b.folder)
}
