package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"freehold/catalog"
	"freehold/e2e/mockengine"
)

const (
	tuningTenants  = 10
	tuningJobs     = 50
	tuningWorkers  = 2
	tuningExamples = 300 // of each tenant; a job takes seconds
	tunedBase      = "freehold-answer-1"

	// promptModel is the model that is asked; its engine answers at once, so that
	// nothing hides what the node itself takes.
	promptModel  = "bench-prompt"
	promptEngine = "prompt"
)

// yard is ten tenants with examples, a node that serves them and two workers.
// Close it.
type yard struct {
	*domain
	engine  *mockengine.Engine
	tenants []customer
	files   []string // each tenant's examples
	node    *serving
	workers []*worker
	client  *http.Client
	body    []byte // what is asked
}

func (e *estate) openYard(ctx context.Context) (_ *yard, err error) {
	y := &yard{client: newCaller()}
	defer func() {
		if err != nil {
			err = errors.Join(err, y.close())
		}
	}()
	if y.body, err = json.Marshal(map[string]any{
		"model": promptModel, "max_tokens": 60, "messages": []any{map[string]any{"role": "user", "content": askedPrompt}},
	}); err != nil {
		return nil, err
	}
	if y.domain, err = e.openDomain(ctx, "freehold_yard", e.address()); err != nil {
		return nil, err
	}
	if y.engine, err = mockengine.Open(mockengine.Config{Words: mockWords}); err != nil {
		return nil, err
	}
	if err := y.offer(ctx); err != nil {
		return nil, err
	}
	if y.tenants, err = y.customers(ctx, "trains", tuningTenants); err != nil {
		return nil, err
	}
	most := tuningJobs
	for _, who := range y.tenants {
		patch := catalog.ConfigPatch{FineTuningRunningLimit: &most, FineTuningQueueLimit: &most}
		if _, err := y.fleet.PatchConfig(ctx, who.ID, patch); err != nil {
			return nil, err
		}
	}
	serves := *y.domain
	serves.env = append(serves.env[:len(serves.env):len(serves.env)], nodeAloneEnv+"=1")
	if y.node, err = e.serve(ctx, &serves); err != nil {
		return nil, err
	}
	for n, who := range y.tenants {
		id, err := who.teach(ctx, y.client, y.node.API, examples(n))
		if err != nil {
			return nil, err
		}
		y.files = append(y.files, id)
	}
	program, err := e.build(ctx, "freehold/cmd/freehold")
	if err != nil {
		return nil, err
	}
	for n := range tuningWorkers {
		w, err := startWorker(program, filepath.Join(e.folder(), fmt.Sprintf("worker-%d.log", n)), y.env)
		if err != nil {
			return nil, err
		}
		y.workers = append(y.workers, w)
	}
	return y, nil
}

// offer adds the model that is asked and the one that is fine-tuned.
func (y *yard) offer(ctx context.Context) error {
	for _, spec := range []catalog.EngineSpec{
		{Name: promptEngine, Kind: "openai", BaseURL: y.engine.URL()}, {Name: "builtin", Kind: "builtin"},
	} {
		if _, err := y.cat.AddEngine(ctx, spec); err != nil {
			return err
		}
	}
	for _, m := range []catalog.Model{
		{Name: promptModel, Engine: promptEngine, Upstream: "mock", Kind: "chat", InputPrice: "0.5", OutputPrice: "1.5"},
		{Name: tunedBase, Engine: "builtin", Kind: "chat", Trainer: "builtin"},
	} {
		if _, err := y.cat.AddModel(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (y *yard) close() error {
	for _, w := range y.workers {
		w.kill()
	}
	if y.node != nil {
		y.node.kill()
	}
	y.client.CloseIdleConnections()
	if y.engine != nil {
		return y.engine.Close()
	}
	return nil
}

// ask is an op: the i-th request is of the i-th tenant.
func (y *yard) ask(ctx context.Context, _, i int) error {
	return answered(ctx, y.client, y.node.API+"/v1", y.tenants[i%len(y.tenants)].token, y.body)
}

// worker is `freehold worker`, a process of its own. Kill it.
type worker struct {
	cmd  *exec.Cmd
	log  string // file
	done chan struct{}
}

func startWorker(program, log string, env []string) (*worker, error) {
	to, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	// Its end is kill's.
	w := &worker{cmd: exec.Command(program, "worker"), log: log, done: make(chan struct{})}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FREEHOLD_") && !strings.HasPrefix(v, "OTEL_") { // the tester's own
			w.cmd.Env = append(w.cmd.Env, v)
		}
	}
	w.cmd.Env = append(w.cmd.Env, env...)
	w.cmd.Stdout, w.cmd.Stderr = to, to
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	go func() {
		_ = w.cmd.Wait()
		close(w.done)
	}()
	return w, nil
}

// kill ends the worker at once, and what it runs.
func (w *worker) kill() {
	_ = w.cmd.Process.Kill()
	<-w.done
}

// alive returns what a worker that has ended said last.
func (w *worker) alive() error {
	select {
	case <-w.done:
	default:
		return nil
	}
	text, _ := os.ReadFile(w.log)
	return fmt.Errorf("a worker ended: %s", text[max(0, len(text)-2000):])
}

// teach uploads a tenant's examples and returns the file's id.
func (c customer) teach(ctx context.Context, client *http.Client, url string, examples []byte) (string, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.WriteField("purpose", "fine-tune"); err != nil {
		return "", err
	}
	part, err := form.CreateFormFile("file", "train.jsonl")
	if err != nil {
		return "", err
	}
	if _, err := part.Write(examples); err != nil {
		return "", err
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	var made struct{ ID string }
	err = c.call(ctx, client, http.MethodPost, url+"/v1/files", form.FormDataContentType(),
		&sized{&body, int64(body.Len())}, &made)
	return made.ID, err
}

// post sends JSON as the customer; a nil body is none.
func (c customer) post(ctx context.Context, client *http.Client, url string, in, out any) error {
	var body *sized
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = &sized{io.Reader(bytes.NewReader(text)), int64(len(text))}
	}
	return c.call(ctx, client, http.MethodPost, url, "application/json", body, out)
}

// Questions are made of these; the thing decides the answer.
var (
	openings = []string{
		"Hello, quick question about", "Could you please tell me more about", "I can't find anything on", "My sister asked about",
		"We talked on the phone about", "There is a problem with", "Somebody should look at", "Last week I wrote to you about",
		"What is the matter with", "I was told to ask here about",
	}
	things = []string{
		"the parcel that never came", "a refund for the blue jacket", "the invoice of last month", "changing the delivery address",
		"the broken zip of my bag", "opening hours on holidays", "a gift card that doesn't work", "my forgotten password",
		"the loyalty points of the family", "ordering for a whole school", "the size of the winter boots", "washing the wool blanket",
		"a job in the warehouse", "the newsletter I never wanted", "paying in three parts",
	}
	endings = []string{
		"before Friday", "since the order in March", "for the shop in the old town", "although the app says otherwise", "once more",
		"with my other account", "while I am abroad", "as your colleague promised", "without the receipt", "for a friend",
	}
)

// examples are a tenant's, all different.
func examples(tenant int) []byte {
	var out bytes.Buffer
	to := json.NewEncoder(&out)
	for i := range tuningExamples {
		thing := i % len(things)
		at := i/len(things)*7 + tenant // 100 pairs of an opening and an ending, 7 and 100 being coprime
		question := fmt.Sprintf("%s %s %s?", openings[at%10], things[thing], endings[at/10%10])
		_ = to.Encode(map[string]any{"messages": []any{ // strings alone
			map[string]any{"role": "user", "content": question},
			map[string]any{"role": "assistant", "content": fmt.Sprintf("Tenant %d's answer %d: we take care of %s.", tenant, thing, things[thing])},
		}})
	}
	return out.Bytes()
}
