package enginetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"freehold/inference/engine"
)

// promptly is how soon a call ends once nobody wants its answer, on a busy machine.
const promptly = 2 * time.Second

// abandon runs fn, which calls leave when it wants no answer any more, and checks
// that the call ends promptly then and leaves no goroutine behind. Goroutines
// inherit the label of whoever starts them, so that they can be told from those of
// tests that run beside this one.
func abandon(t *testing.T, s Subject, fn func(ctx context.Context, leave func()) error) error {
	t.Helper()
	var (
		err  error
		left time.Time
	)
	pprof.Do(t.Context(), pprof.Labels("enginetest", t.Name()), func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		err = fn(ctx, func() {
			left = time.Now()
			cancel()
		})
	})
	if took := time.Since(left); !left.IsZero() && took > promptly {
		t.Errorf("it took %v to end", took)
	}
	if err == nil {
		t.Error("it ended well, and nobody was there")
	}
	if c, ok := s.Engine.(io.Closer); ok {
		// What serves later calls is not left behind by this one.
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := labelled(t)
		if left == "" {
			return err
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines were left behind:\n%s", left)
		}
	}
}

// labelled returns the stacks of the goroutines that bear the test's label.
func labelled(t *testing.T) string {
	t.Helper()
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		t.Fatal(err)
	}
	label, _ := json.Marshal(t.Name()) // a string always encodes
	var found []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, `"enginetest":`+string(label)) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

func cancelledBefore(t *testing.T, s Subject) {
	for _, stream := range []bool{false, true} {
		err := abandon(t, s, func(ctx context.Context, leave func()) error {
			leave()
			if !stream {
				_, err := s.Engine.Chat(ctx, s.request(nil))
				return err
			}
			return s.Engine.ChatStream(ctx, s.request(nil), func(*engine.ChatChunk) error {
				t.Error("a chunk for nobody")
				return nil
			})
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("streamed: %v; got %v", stream, err)
		}
	}
}

// cancelledWithin leaves at the first chunk: there is no second.
func cancelledWithin(t *testing.T, s Subject) {
	chunks := 0
	err := abandon(t, s, func(ctx context.Context, leave func()) error {
		return s.Engine.ChatStream(ctx, s.request(nil), func(*engine.ChatChunk) error {
			chunks++
			leave()
			return nil
		})
	})
	if !errors.Is(err, context.Canceled) || chunks != 1 {
		t.Errorf("%d chunks, then %v", chunks, err)
	}
}

// cancelledMeanwhile leaves at any moment: it ends well, or as cancelled.
func cancelledMeanwhile(t *testing.T, s Subject) {
	for wait := time.Microsecond; wait < 40*time.Millisecond; wait *= 3 {
		_ = abandon(t, s, func(ctx context.Context, _ func()) error {
			ctx, cancel := context.WithCancel(ctx)
			defer time.AfterFunc(wait, cancel).Stop()
			defer cancel()
			_, err := s.Engine.Chat(ctx, s.request(nil))
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("after %v: %v", wait, err)
			}
			return context.Canceled
		})
	}
}

func lostClient(t *testing.T, s Subject) {
	lost := errors.New("client lost")
	for after := range 3 {
		chunks := 0
		err := abandon(t, s, func(ctx context.Context, _ func()) error {
			return s.Engine.ChatStream(ctx, s.request(nil), func(*engine.ChatChunk) error {
				if chunks++; chunks > after {
					return lost
				}
				return nil
			})
		})
		if !errors.Is(err, lost) || chunks != after+1 {
			t.Errorf("%d chunks, then %v; want the client's own error after %d", chunks, err, after+1)
		}
	}
}

func pastDeadline(t *testing.T, s Subject) {
	err := abandon(t, s, func(ctx context.Context, _ func()) error {
		ctx, cancel := context.WithTimeout(ctx, time.Nanosecond)
		defer cancel()
		_, err := s.Engine.Chat(ctx, s.request(nil))
		return err
	})
	if engine.KindOf(err) != engine.Timeout {
		t.Errorf("got %v, want a timeout", err)
	}
}

// both has a request refused whole and streamed, before any chunk.
func both(t *testing.T, e engine.Engine, req *engine.ChatRequest) map[string]error {
	t.Helper()
	_, wholeErr := e.Chat(t.Context(), req)
	a, streamErr := listen(t.Context(), t, e, req)
	if len(a.chunks) > 0 {
		t.Errorf("%d chunks before the error", len(a.chunks))
	}
	return map[string]error{"whole": wholeErr, "streamed": streamErr}
}

// discreet checks that an error is typed and tells nothing that it must not.
func discreet(t *testing.T, s Subject, what string, err error) *engine.Error {
	t.Helper()
	var e *engine.Error
	if !errors.As(err, &e) {
		t.Fatalf("%s: got %v, want an *engine.Error", what, err)
	}
	for _, secret := range append([]string{canary}, s.Secrets...) {
		for inner := err; inner != nil; inner = errors.Unwrap(inner) {
			if strings.Contains(inner.Error(), secret) {
				t.Errorf("%s: an error that is logged holds a prompt or a key", what)
			}
		}
		if (secret != canary || e.Kind == engine.Failed || e.Kind == engine.Timeout) && strings.Contains(e.Message, secret) {
			t.Errorf("%s: the message holds a prompt or a key", what)
		}
	}
	return e
}

func refuses(t *testing.T, s Subject) {
	for what, err := range both(t, s.Engine, s.Refused(canary)) {
		if e := discreet(t, s, what, err); e.Kind != engine.BadRequest || e.Message == "" {
			t.Errorf("%s: %v, message %q", what, e.Kind, e.Message)
		}
	}
	req := s.request(func(r *engine.ChatRequest) { r.Model = "no-such-model" })
	for what, err := range both(t, s.Engine, req) {
		discreet(t, s, what, err)
	}
}

// unsupported checks that the engine names what it can't do. An engine behind
// another one's door hears it as a bad request.
func unsupported(t *testing.T, s Subject, req *engine.ChatRequest, param string) {
	t.Helper()
	for what, err := range both(t, s.Engine, req) {
		e := discreet(t, s, what, err)
		if e.Kind != engine.Unsupported && e.Kind != engine.BadRequest || e.Param != param || e.Message == "" {
			t.Errorf("%s: %v for %q, %q", what, e.Kind, e.Param, e.Message)
		}
	}
}

func fails(t *testing.T, s Subject) {
	if s.Failing == nil {
		return
	}
	for what, err := range both(t, s.Failing, s.request(nil)) {
		if e := discreet(t, s, what, err); e.Kind != engine.Failed || e.Message == "" {
			t.Errorf("%s: %v, message %q", what, e.Kind, e.Message)
		}
	}
	_, err := s.Failing.Embed(t.Context(), &engine.EmbedRequest{Model: s.EmbedModel, Input: []string{canary}})
	discreet(t, s, "embeddings", err)
}
