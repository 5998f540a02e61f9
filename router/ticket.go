package router

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// eofTimeout is how long the server may take to close its end before it is asked
// whether the backend lives.
const eofTimeout = 5 * time.Second

// ticket is one unit of a server's budget, from before the dial until the server
// has closed its end. One ticket, one socket: what a pool dials without one, and
// a second socket for the same one, is refused without waiting.
type ticket struct {
	pool *pool

	// Guarded by Router.mu:
	state ticketState
	pid   uint32 // the backend's, once proven

	// sock is the connection's socket, nil before the dial, and busy says that
	// the dial is under way. Guarded by mu, which nobody holds for long.
	mu   sync.Mutex
	sock *socket
	busy bool
	// stop ends the watch for the router's Close, which breaks dials and proofs
	// off. Guarded by mu.
	stop func() bool
	// proven says that dials from now on are cancel requests, which the server
	// answers without a backend of their own. Guarded by mu.
	proven bool
}

type ticketState uint8

const (
	dialing ticketState = iota // no socket, or one that isn't proven yet
	ready                      // idle or lent
	closing                    // nobody gets it any more
	ended                      // given back
)

type ticketKey struct{}

var (
	// errNoTicket refuses a dial that pgxpool begins by itself, because an idle
	// connection had died. The borrower queues again.
	errNoTicket = errors.New("no ticket for this dial")
	errTwoSocks = errors.New("the ticket's first socket is not closed yet")
)

// useTicket is pgxpool's BeforeConnect: it makes every dial of the connection the
// ticket's.
func useTicket(ctx context.Context, c *pgx.ConnConfig) error {
	t, ok := ctx.Value(ticketKey{}).(*ticket)
	if !ok {
		return errNoTicket
	}
	real := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return t.dial(ctx, real, network, addr)
	}
	return nil
}

func (t *ticket) dial(ctx context.Context, real pgconn.DialFunc, network, addr string) (net.Conn, error) {
	switch proven, free := t.claim(); {
	case proven:
		return real(ctx, network, addr)
	case !free:
		return nil, errTwoSocks
	}
	base := t.pool.router.base
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(base, cancel)()
	conn, err := real(ctx, network, addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = false
	if err != nil {
		return nil, err
	}
	t.sock = &socket{Conn: conn, ticket: t, over: make(chan struct{})}
	t.stop = context.AfterFunc(base, t.sock.kill)
	return t.sock, nil
}

// claim makes the ticket's one dial the caller's, when it is free.
func (t *ticket) claim() (proven, free bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.proven || t.busy || (t.sock != nil && !t.sock.isOver()) {
		return t.proven, false
	}
	t.busy = true
	return false, true
}

func (t *ticket) socket() *socket {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sock
}

func (t *ticket) prove() {
	t.mu.Lock()
	t.proven = true
	t.stop()
	t.mu.Unlock()
}

func (t *ticket) isProven() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proven
}

// socket is a connection's net.Conn. Close returns at once; the ticket is given
// back when the server has closed its end, which it does after the backend has
// left its shared memory.
type socket struct {
	net.Conn
	ticket *ticket
	once   sync.Once
	shut   bool          // Close was called; guarded by Router.mu
	over   chan struct{} // closed when the socket is gone
}

func (s *socket) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// Close implements net.Conn. What is written already, a Terminate, goes out
// before the end of our side.
func (s *socket) Close() error {
	s.once.Do(func() {
		r := s.ticket.pool.router
		r.mu.Lock()
		s.shut = true
		r.doom(s.ticket)
		r.mu.Unlock()
		r.work.Go(s.bury)
	})
	return nil
}

// kill ends the connection under its borrower: what waits for the server is given
// up, which ends its statement, and a backend that waits for us sees our end.
func (s *socket) kill() {
	_ = s.SetDeadline(time.Unix(1, 0))
	s.closeWrite()
}

func (s *socket) closeWrite() {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // a server that is gone needs none
	}
}

// bury waits for the server's end of the socket and gives the ticket back.
func (s *socket) bury() {
	r := s.ticket.pool.router
	s.closeWrite()
	gone := s.drained(time.Now().Add(eofTimeout))
	for !gone && r.cfg.Backends == nil && s.ticket.isProven() && r.base.Err() == nil {
		gone = s.drained(time.Now().Add(eofTimeout)) // there is nobody to ask
	}
	_ = s.Conn.Close()
	if !gone {
		r.awaitBackend(s.ticket)
	}
	close(s.over)
	r.mu.Lock()
	// A ticket whose dial is under way still is the dial's to end.
	if s.ticket.state == closing {
		r.end(s.ticket)
	}
	r.mu.Unlock()
}

// drained reads until the server closes its end. A reset is an end too.
func (s *socket) drained(until time.Time) bool {
	_ = s.SetDeadline(until)
	_, err := io.Copy(io.Discard, s.Conn)
	timeout, ok := errors.AsType[net.Error](err)
	return !ok || !timeout.Timeout()
}

// awaitBackend returns when the ticket's backend is gone from the server, as the
// server says. A socket that was never proven has no backend that counts.
func (r *Router) awaitBackend(t *ticket) {
	r.mu.Lock()
	pid, server := t.pid, t.pool.srv
	r.mu.Unlock()
	if pid == 0 || r.cfg.Backends == nil {
		return
	}
	r.cfg.Logger.Warn("server does not close a connection", "server", server.id, "pid", pid)
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		ctx, cancel := context.WithTimeout(r.base, r.cfg.OpenTimeout)
		alive, err := r.cfg.Backends(ctx, server.id, []uint32{pid})
		cancel()
		if err == nil && len(alive) == 0 {
			return
		}
		select {
		case <-time.After(wait):
		case <-r.base.Done():
			return
		}
	}
}

// ticketOf returns the ticket of an acquired connection, nil when it has none.
func ticketOf(conn *pgxpool.Conn) *ticket {
	nc := conn.Conn().PgConn().Conn()
	for nc != nil {
		switch c := nc.(type) {
		case *socket:
			return c.ticket
		case interface{ NetConn() net.Conn }:
			nc = c.NetConn()
		default:
			return nil
		}
	}
	return nil
}
