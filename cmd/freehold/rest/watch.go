package rest

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// watchEvery is how often a connection is asked whether its client is still
// there. An engine may be silent for long, and neither HTTP nor the server's own
// read notices a client that leaves meanwhile.
const watchEvery = 200 * time.Millisecond

// watch calls lost once when the client of nc goes away (a client that closes
// its half counts as gone), until stop is called. Nothing is read from nc, so a
// pipelined request stays whole. Where the system can't tell, lost is never called.
func watch(nc net.Conn, lost func()) (stop func()) {
	raw := rawConn(nc)
	if raw == nil {
		return func() {}
	}
	w := &watcher{raw: raw, lost: lost}
	// A timer, not a goroutine: most requests end before its first tick.
	first := time.AfterFunc(watchEvery, w.tick)
	return func() {
		w.stopped.Store(true)
		first.Stop() // a later tick sees stopped, and is the last
	}
}

type watcher struct {
	raw     syscall.RawConn
	lost    func()
	stopped atomic.Bool
}

func (w *watcher) tick() {
	if w.stopped.Load() {
		return
	}
	gone := false
	if err := w.raw.Control(func(fd uintptr) { gone = hungUp(fd) }); err != nil || gone {
		w.lost()
		return
	}
	if !w.stopped.Load() {
		time.AfterFunc(watchEvery, w.tick)
	}
}

// rawConn finds the socket under TLS and our own wrapper.
func rawConn(nc net.Conn) syscall.RawConn {
	for {
		if sc, ok := nc.(syscall.Conn); ok {
			raw, err := sc.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		}
		under, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = under.NetConn()
	}
}
