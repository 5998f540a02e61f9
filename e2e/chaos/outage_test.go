package chaos_test

import (
	"context"
	"encoding/json"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"freehold/e2e/child"
)

// crash ends the tenants' server under everybody, and starts it again.
func (o *operator) crash(context.Context) {
	began := now()
	if err := o.ground.crash(300 * time.Millisecond); err != nil {
		o.wrong(left, "crash: %v", err)
		return
	}
	o.count("crash")
	o.enter(o.harmed, everybody, spell{from: began, to: now() + noticed})
	o.enter(o.closed, everybody, spell{from: began, to: now() + breakTime})
}

// cut keeps the nodes from the catalog for a while. What must bind then has to
// bind without it.
func (o *operator) cut(ctx context.Context, silently bool, lasts time.Duration) {
	o.wire.Lock()
	defer o.wire.Unlock()
	o.proxy.cut(silently)
	o.count("cut off")
	var meanwhile sync.WaitGroup
	for range 3 {
		meanwhile.Go(func() { o.suspend(ctx) })
		meanwhile.Go(func() { o.revoke(ctx) })
	}
	rest(ctx, lasts)
	o.proxy.mend()
	meanwhile.Wait()
}

// posts are the places of nodes: one that is killed is followed by another.
type posts struct {
	t    *testing.T
	spec spec
	dir  string

	mu       sync.Mutex
	running  []*child.Process // guarded by mu, by post
	journals []string         // guarded by mu, of all that ever ran
}

func (p *posts) next() spec {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.spec
	s.Name = "node-" + strconv.Itoa(len(p.journals))
	s.Journal = filepath.Join(p.dir, s.Name)
	p.journals = append(p.journals, s.Journal)
	return s
}

// start puts a node on a post, as a process of its own.
func (p *posts) start(post int) error {
	text, err := json.Marshal(p.next())
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	proc := child.Start(p.t, child.Config{
		Path: self, Env: []string{nodeEnv + "=1"}, Stdin: string(text), Dir: p.dir,
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[post] = proc
	return nil
}

// kill ends a node without a word.
func (o *operator) kill(p *posts) {
	post := mathrand.IntN(len(p.running))
	p.mu.Lock()
	victim := p.running[post]
	p.mu.Unlock()
	select {
	case <-victim.Done():
		o.wrong(left, "node %d had ended", post)
	default:
	}
	victim.Kill()
	<-victim.Done()
	o.count("kill")
	time.Sleep(200 * time.Millisecond)
	if err := p.start(post); err != nil {
		o.wrong(left, "start node: %v", err)
	}
}

// stop ends all nodes in order.
func (p *posts) stop(l *ledger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, proc := range p.running {
		proc.Signal(p.t, syscall.SIGTERM)
	}
	for post, proc := range p.running {
		if code := proc.Wait(p.t, openTime+visitsTime+2*closeTime); code != 0 {
			l.wrong(left, "node %d ended with %d: %s", post, code, proc.Stderr)
		}
	}
}
