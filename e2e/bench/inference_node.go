package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"freehold/cmd/freehold/app"
)

// nodeEnv, when set, makes a serving node of this program: a process of its own,
// whose processor time is its own and which can be killed. It is the URL that the
// bare proxy beside the node leads to.
const nodeEnv = "FREEHOLD_BENCH_NODE"

// nodeAloneEnv, when set, makes it one without workers.
const nodeAloneEnv = "FREEHOLD_BENCH_NODE_ALONE"

// greeting is what a node prints once it serves.
type greeting struct{ API, Bare string }

// beNode is the life of such a process: until its standard input ends, which is
// when the benchmark does.
func beNode(upstream string) error {
	to, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	// The root of this process, which ends with its standard input.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	bare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: bareProxy(to), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(bare) }()
	defer server.Close()
	cfg := app.FromEnv(os.Getenv)
	return app.Serve(ctx, cfg, "bench", os.Getenv(nodeAloneEnv) == "", cfg.Logger(false), func(api, _ net.Addr) {
		_ = json.NewEncoder(os.Stdout).Encode(greeting{"http://" + api.String(), "http://" + bare.Addr().String()})
	})
}

// bareProxy passes requests on, and does nothing else. GET /cpu tells how much
// processor time this process has used, in nanoseconds; /heap is a heapGauge.
func bareProxy(to *url.URL) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{MaxIdleConnsPerHost: askedAtOnce},
	}
	mux := http.NewServeMux()
	mux.Handle("/", proxy)
	mux.Handle("/heap", &heapGauge{})
	mux.HandleFunc("GET /cpu", func(w http.ResponseWriter, _ *http.Request) {
		var used syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprint(w, used.Utime.Nano()+used.Stime.Nano())
	})
	return mux
}

// serving is a node as its parent sees it. Kill it.
type serving struct {
	greeting
	log   string // file
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}
}

// serveTime bounds how long a node takes until it serves.
const serveTime = 30 * time.Second

// serve starts a node for a domain.
func (e *estate) serve(ctx context.Context, d *domain) (*serving, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &serving{log: filepath.Join(e.folder(), fmt.Sprintf("node-%d.log", len(e.nodes))), done: make(chan struct{})}
	log, err := os.Create(n.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n.cmd = exec.Command(self)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FREEHOLD_") && !strings.HasPrefix(v, "OTEL_") { // the tester's own
			n.cmd.Env = append(n.cmd.Env, v)
		}
	}
	n.cmd.Env = append(append(n.cmd.Env, d.env...), nodeEnv+"="+e.mock.URL())
	n.cmd.Stderr = log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	e.nodes = append(e.nodes, n)
	said := make(chan error, 1)
	go func() {
		defer close(n.done)
		said <- json.NewDecoder(bufio.NewReader(out)).Decode(&n.greeting)
		_, _ = io.Copy(io.Discard, out)
		_ = n.cmd.Wait()
	}()
	select {
	case err = <-said:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(serveTime):
		err = errors.New("it says nothing")
	}
	if err != nil {
		n.kill()
		text, _ := os.ReadFile(n.log)
		return nil, fmt.Errorf("start a node: %w: %s", err, text)
	}
	return n, n.ready(ctx)
}

// ready waits until the node knows the catalog.
func (n *serving) ready(ctx context.Context) error {
	for end := time.Now().Add(serveTime); ; {
		res, err := http.Get(n.API + "/readyz")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(res.Status)
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("node isn't ready: %w", errors.Join(ctx.Err(), err))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// kill ends the node at once. It may have ended.
func (n *serving) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.stdin.Close()
	<-n.done
}

// processor is the time that the node's process has used until now.
func (n *serving) processor() (time.Duration, error) {
	res, err := http.Get(n.Bare + "/cpu")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(string(text), 10, 64)
	return time.Duration(ns), err
}
