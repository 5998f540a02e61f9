// Package wire is a way to a Postgres server that a test can cut, and on which a
// benchmark counts the flushes of each user: from outside, by what goes over it.
package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Wire passes connections on to a Postgres server. Close it.
type Wire struct {
	to       string
	listener net.Listener
	work     sync.WaitGroup

	quiet atomic.Pointer[chan struct{}] // closed when bytes pass again; nil while they do

	mu    sync.Mutex // guards what follows
	users map[string]*user
	conns map[net.Conn]struct{}
	shut  bool // refuses
}

// user is what is known of the connections of one.
type user struct {
	flushes atomic.Int64
	lose    atomic.Int64 // answers until one is lost; 0 or less: none is
}

// Open makes a wire to the server at an address.
func Open(to string) (*Wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Wire{to: to, listener: l, users: map[string]*user{}, conns: map[net.Conn]struct{}{}}
	w.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.work.Go(func() { w.carry(conn) })
		}
	})
	return w, nil
}

// Addr is where clients connect.
func (w *Wire) Addr() string { return w.listener.Addr().String() }

// Flushes is how often the connections of a user have sent something and then
// waited for an answer, logging in included.
func (w *Wire) Flushes(name string) int64 { return w.of(name).flushes.Load() }

// Lose breaks the connection of a user on which the n-th answer from now on comes,
// before any of it has gone on: what was asked for is done, and nobody is told.
func (w *Wire) Lose(name string, n int) { w.of(name).lose.Store(int64(n)) }

func (w *Wire) of(name string) *user {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users[name] == nil {
		w.users[name] = new(user)
	}
	return w.users[name]
}

// keep has Cut know a connection; false: it is cut.
func (w *Wire) keep(conn net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.shut {
		w.conns[conn] = struct{}{}
	}
	return !w.shut
}

func (w *Wire) forget(conn net.Conn) {
	_ = conn.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, conn)
}

// carry passes one connection on. Its flushes are its user's: what the client
// sends after the server has sent something is a new one.
func (w *Wire) carry(client net.Conn) {
	defer w.forget(client)
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer w.forget(server)
	if !w.keep(client) || !w.keep(server) {
		return
	}
	startup, name, err := readStartup(client)
	if err != nil {
		return
	}
	w.await()
	if _, err := server.Write(startup); err != nil {
		return
	}
	who, answered := w.of(name), new(atomic.Bool)
	var both sync.WaitGroup
	both.Go(func() {
		defer server.Close()
		w.pass(client, server, func() bool {
			if answered.Swap(false) {
				who.flushes.Add(1)
			}
			return true
		})
	})
	both.Go(func() {
		defer client.Close()
		w.pass(server, client, func() bool { return answered.Swap(true) || who.lose.Add(-1) != 0 })
	})
	both.Wait()
}

// pass carries one direction, until a piece mustn't go on or either end closes.
func (w *Wire) pass(from, to net.Conn, may func() bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !may() {
				return
			}
			w.await()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readStartup reads a connection's first message, which has no type: its length,
// a version, and then names and values, each ended by a zero byte (PostgreSQL
// documentation, Message Formats, StartupMessage).
func readStartup(conn net.Conn) (message []byte, name string, err error) {
	const most = 1 << 14
	message = make([]byte, 4)
	if _, err := io.ReadFull(conn, message); err != nil {
		return nil, "", err
	}
	length := binary.BigEndian.Uint32(message)
	if length < 8 || length > most {
		return nil, "", errors.New("not a startup message")
	}
	message = append(message, make([]byte, length-4)...)
	if _, err := io.ReadFull(conn, message[4:]); err != nil {
		return nil, "", err
	}
	fields := bytes.Split(message[8:], []byte{0})
	for i := 0; i+1 < len(fields); i += 2 {
		if string(fields[i]) == "user" {
			name = string(fields[i+1])
		}
	}
	return message, name, nil
}

// Cut breaks all connections and refuses new ones until Mend.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut = true
	for conn := range w.conns {
		_ = conn.Close()
	}
}

// Silence holds all that is sent back, either way, until Mend: nobody is told that
// anything is wrong.
func (w *Wire) Silence() {
	flows := make(chan struct{})
	w.quiet.CompareAndSwap(nil, &flows)
}

// await waits for the end of a silence.
func (w *Wire) await() {
	if flows := w.quiet.Load(); flows != nil {
		<-*flows
	}
}

// Mend ends a cut, and a silence.
func (w *Wire) Mend() {
	if flows := w.quiet.Swap(nil); flows != nil {
		close(*flows)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut = false
}

// Close ends everything.
func (w *Wire) Close() {
	_ = w.listener.Close()
	w.Cut()
	if flows := w.quiet.Swap(nil); flows != nil {
		close(*flows)
	}
	w.work.Wait()
}
