package router_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"freehold/catalog"
)

// relay is a server's address in front of Postgres: it can be closed, cut its
// connections, and be silent.
type relay struct {
	t      testing.TB
	addr   *net.TCPAddr
	target string

	mu     sync.Mutex // guards all below
	ln     net.Listener
	conns  map[net.Conn]struct{}
	silent bool
	deaf   bool
	came   int
	all    sync.WaitGroup
}

// newRelay listens on an address of this machine and passes on to the server of
// the route.
func newRelay(t testing.TB, addr string, to catalog.Route) *relay {
	t.Helper()
	r := &relay{
		t: t, conns: make(map[net.Conn]struct{}),
		target: fmt.Sprintf("%s:%d", to.Config.Host, to.Config.Port),
	}
	r.listen(addr)
	t.Cleanup(func() {
		r.close()
		r.all.Wait()
	})
	return r
}

func (r *relay) listen(addr string) {
	r.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.ln, r.addr = ln, ln.Addr().(*net.TCPAddr)
	r.mu.Unlock()
	r.all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if !r.take(conn) {
				continue
			}
			r.all.Go(func() { r.pass(conn) })
		}
	})
}

// open listens again where it was closed.
func (r *relay) open() {
	r.t.Helper()
	r.listen(r.addr.String())
}

// close refuses connections from now on and cuts those that there are.
func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.ln.Close()
	for conn := range r.conns {
		_ = conn.Close()
	}
	clear(r.conns)
}

// hush has it take connections and say nothing, or end that, and cuts those that
// there are.
func (r *relay) hush(silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent, r.deaf = silent, false
	for conn := range r.conns {
		_ = conn.Close()
	}
	clear(r.conns)
}

// lose has it keep to itself what clients say, their end included.
func (r *relay) lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = true
}

// outward is what clients say, as far as it is passed on.
type outward struct {
	r  *relay
	to net.Conn
}

func (o outward) Write(p []byte) (int, error) {
	if o.r.hears() {
		return o.to.Write(p)
	}
	return len(p), nil
}

func (r *relay) hears() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.deaf
}

// take holds a connection that is to be cut later, and reports whether it is
// passed on.
func (r *relay) take(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.came++
	r.conns[conn] = struct{}{}
	return !r.silent
}

// taken is how many connections came.
func (r *relay) taken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.came
}

func (r *relay) pass(conn net.Conn) {
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.mu.Lock()
	r.conns[server] = struct{}{}
	r.mu.Unlock()
	r.all.Go(func() {
		_, _ = io.Copy(outward{r, server}, conn)
		if r.hears() {
			_ = server.(*net.TCPConn).CloseWrite()
		}
	})
	_, _ = io.Copy(conn, server)
	_ = conn.Close()
	_ = server.Close()
}

// through moves a tenant's server behind the relay.
func (r *relay) through(route *catalog.Route) {
	route.Config.Host, route.Config.Port = r.addr.IP.String(), uint16(r.addr.Port)
}

// counted counts the dials of a route.
func counted(route *catalog.Route) *atomic.Int64 {
	var n atomic.Int64
	route.Config = route.Config.Copy()
	route.Config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return &n
}
