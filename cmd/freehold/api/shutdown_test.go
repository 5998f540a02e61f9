package api_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"freehold/cmd/freehold/rest/resttest"
	"freehold/inference"
	"freehold/inference/engine"
)

// A node that stops cuts a stream that doesn't end with a last event, and settles
// what was said until then.
func TestShutdownSettlesStreams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Engine.Instead(func(ctx context.Context, emit func(*engine.ChatChunk) error) error {
		for {
			if err := emit(resttest.Word("", "word ")); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/v1/chat/completions", strings.NewReader(
		`{"model":"chat-1","stream":true,"messages":[{"role":"user","content":"x"}]}`))
	b.OK(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+b.client.Token)
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	b.OK(err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() {
		t.Fatal("no first event")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- b.door.Shutdown(ctx) }()
	last := ""
	for lines.Scan() {
		if line := lines.Text(); line != "" {
			last = line
		}
	}
	if !strings.Contains(last, `"code":"shutting_down"`) {
		t.Errorf("the last event is %s", last)
	}
	b.OK(<-stopped)
	call := b.call()
	list, _, err := b.Inference.Predictions(t.Context(), call, [16]byte{}, 10)
	b.OK(err)
	if len(list) != 1 || list[0].State != "cancelled" || list[0].Usage.CompletionTokens < 1 || !strings.Contains(string(list[0].Output), "word word") {
		t.Errorf("settled as %+v", list)
	}
}

// call is acme's, below the door.
func (b *bench) call() inference.Call {
	b.Helper()
	who, err := b.Cache.Authenticate(b.Context(), b.client.Token)
	b.OK(err)
	return inference.Call{Tenant: b.Router.For(who.Tenant, who.Epoch), Scope: who.Tenant.String(), Epoch: who.Epoch, Config: who.Config, KeyID: who.KeyID}
}
