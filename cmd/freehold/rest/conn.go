package rest

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writeTimeout bounds one write, not a whole answer: a stream may last, and a
	// reader that has stopped reading may not hold a connection.
	writeTimeout = 30 * time.Second
	// lingerTime and lingerBytes bound what is read and thrown away behind an
	// answer that went out before its request had arrived.
	lingerTime  = 5 * time.Second
	lingerBytes = 64 << 20
)

// listener hands out connections that bound each write, can linger, and are
// known, so that the last ones can be closed.
type listener struct {
	net.Listener
	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, from: l}
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

// cut closes the connections that never sent a byte, or all of them.
func (l *listener) cut(all bool) {
	l.mu.Lock()
	var doomed []*conn
	for c := range l.conns {
		if all || !c.used.Load() {
			doomed = append(doomed, c)
		}
	}
	l.mu.Unlock()
	for _, c := range doomed {
		c.linger.Store(false)
		_ = c.Close()
	}
}

type conn struct {
	net.Conn
	from   *listener
	used   atomic.Bool
	linger atomic.Bool
	ended  atomic.Bool // a read found the end
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.used.Load() {
		c.used.Store(true)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		c.ended.Store(true)
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close closes; after linger was asked for, it first ends its own half and reads
// on. Closing with unread bytes resets the connection, and the reset would
// overtake the answer that says why.
func (c *conn) Close() error {
	c.from.mu.Lock()
	delete(c.from.conns, c)
	c.from.mu.Unlock()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.linger.Swap(false) && half.CloseWrite() == nil {
		c.drain()
	}
	return c.Conn.Close()
}

func (c *conn) drain() {
	if c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for left := lingerBytes; left > 0; {
		n, err := c.Conn.Read(buf)
		if err != nil {
			return
		}
		left -= n
	}
}
