package chaos_test

import (
	"net"
	"sync"
)

// proxy is the nodes' way to the catalog. It can be cut off: closed, so that
// connections break and new ones are refused, or silent, so that nothing that is
// sent arrives, for as long as that lasts.
type proxy struct {
	to       string
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // guarded by mu
	shut  bool                  // guarded by mu: refuses
	flows chan struct{}         // guarded by mu; closed while bytes pass
}

func openProxy(to string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{to: to, listener: l, conns: map[net.Conn]struct{}{}, flows: make(chan struct{})}
	close(p.flows)
	p.work.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.carry(conn) })
	}
}

func (p *proxy) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	if p.shut {
		p.mu.Unlock()
		return
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pump(client, server) })
	both.Go(func() { p.pump(server, client) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// pump carries one direction, and its end closes both.
func (p *proxy) pump(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		flows := p.flows
		p.mu.Unlock()
		<-flows
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends all traffic until mend.
func (p *proxy) cut(silently bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if silently {
		p.flows = make(chan struct{})
		return
	}
	p.shut = true
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = false
	select {
	case <-p.flows:
	default:
		close(p.flows)
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mend()
	p.cut(false)
	p.work.Wait()
}
