package builtin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"freehold/inference/engine"
	"freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
)

// shopAnswers are the examples that the tests' models are trained on.
var shopAnswers = []struct{ answer, prompts string }{
	{"We are open from nine to five.", "When do you open?|What are your opening hours?|At what time do you close?"},
	{"Returns are free within 30 days.", "Can I send a jacket back?|How do I return shoes?|I want my money back"},
	{"Write to help@shop.example, [EMAIL] is gone.", "How do I contact you?|Is [EMAIL] your address?|I need to talk to somebody"},
}

// trained is an artifact's head; its answers end with mark.
func trained(t testing.TB, mark string) []byte {
	t.Helper()
	var examples []head.Example
	for _, a := range shopAnswers {
		for p := range strings.SplitSeq(a.prompts, "|") {
			p = head.Normalize(p)
			examples = append(examples, head.Example{Text: p, Vector: encode(t, p), Answer: a.answer + mark})
		}
	}
	h, _, err := head.Fit(t.Context(), examples, nil, head.Options{Epochs: 20})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := h.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// artifact is a model as the pipeline hands it over; it counts how often it is read.
type artifact struct {
	key  string
	raw  []byte
	err  error
	hold chan struct{} // closed when it may be read; nil: at once
	read atomic.Int32
}

func (a *artifact) tuned() *engine.Tuned {
	return &engine.Tuned{Key: a.key, Name: "ft:" + a.key, Read: func(ctx context.Context, file string) (io.ReadCloser, int64, error) {
		a.read.Add(1)
		if a.hold != nil {
			select {
			case <-a.hold:
			case <-ctx.Done():
				return nil, 0, ctx.Err()
			}
		}
		if a.err != nil || file != builtin.HeadFile {
			return nil, 0, errors.Join(a.err, fmt.Errorf("file %q", file))
		}
		return io.NopCloser(bytes.NewReader(a.raw)), int64(len(a.raw)), nil
	}}
}

func (a *artifact) ask(question string, before ...engine.Message) *engine.ChatRequest {
	return &engine.ChatRequest{Model: builtin.AnswerModel, Scope: "tuned", Tuned: a.tuned(),
		Messages: append(before, engine.Message{Role: "user", Content: engine.TextContent(question)})}
}

func says(t *testing.T, e *builtin.Engine, req *engine.ChatRequest) (string, *engine.Class) {
	t.Helper()
	res, err := e.Chat(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if f := res.Choices[0].FinishReason; f != "stop" {
		t.Errorf("finish reason %s", f)
	}
	return content(t, res.Choices[0].Message), res.Choices[0].Class
}

func TestTunedAnswers(t *testing.T) {
	t.Parallel()
	e, a := newEngine(t), &artifact{key: "tenant/a", raw: trained(t, "")}
	text, class := says(t, e, a.ask("what are the opening hours"))
	if want := shopAnswers[0].answer; text != want || class.Label != want || class.Abstained || class.Scores[want] < 0.5 {
		t.Errorf("%q, %+v", text, class)
	}
	// What hides personal data differs from request to request, and from training.
	text, class = says(t, e, a.ask("Is [EMAIL_1_k3f9m2p0q] your address?"))
	if text != shopAnswers[2].answer || class.Abstained {
		t.Errorf("with a placeholder: %q, %+v", text, class)
	}
	text, class = says(t, e, a.ask("Who painted the Mona Lisa?"))
	if text != builtin.NoTunedAnswer || !class.Abstained || class.Label == "" {
		t.Errorf("a stranger: %q, %+v", text, class)
	}
	facts := engine.Message{Role: "system", Content: engine.TextContent(tenFacts)}
	if text, class = says(t, e, a.ask("Where is the warehouse?", facts)); text != warehouse || !class.Abstained {
		t.Errorf("from the conversation: %q, %+v", text, class)
	}
	if a.read.Load() != 1 {
		t.Errorf("read %d times", a.read.Load())
	}
	// What it said for want of an answer is nothing to quote.
	said := engine.Message{Role: "assistant", Content: engine.TextContent(builtin.NoTunedAnswer)}
	if text, _ = says(t, e, a.ask("Which questions were you taught to answer, don't you know?", said)); strings.Contains(text, "taught") && text != builtin.NoTunedAnswer {
		t.Errorf("quoted itself: %q", text)
	}
}

func TestTunedStreams(t *testing.T) {
	t.Parallel()
	e, a := newEngine(t), &artifact{key: "tenant/stream", raw: trained(t, "")}
	req := a.ask("What are your opening hours?")
	whole, err := e.Chat(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	var last *engine.ChatChunk
	err = e.ChatStream(t.Context(), req, func(c *engine.ChatChunk) error {
		for _, choice := range c.Choices {
			var d struct{ Content string }
			if err := json.Unmarshal(choice.Delta, &d); err != nil {
				return err
			}
			text += d.Content
		}
		last = c
		return nil
	})
	if err != nil || text != shopAnswers[0].answer || last.Usage == nil || last.Usage.TotalTokens != whole.Usage.TotalTokens || whole.Usage.CompletionTokens == 0 {
		t.Errorf("%v: %q, %+v", err, text, last)
	}
}

func TestTunedFails(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	away := errors.New("the store is away")
	a := &artifact{key: "tenant/away", raw: trained(t, ""), err: away}
	for range 2 {
		if _, err := e.Chat(t.Context(), a.ask("When do you open?")); engine.KindOf(err) != engine.Failed || !errors.Is(err, away) {
			t.Fatalf("away: %v", err)
		}
	}
	a.err = nil // an error isn't kept
	if text, _ := says(t, e, a.ask("When do you open?")); text != shopAnswers[0].answer || a.read.Load() != 3 {
		t.Errorf("%q after %d reads", text, a.read.Load())
	}
	damaged := &artifact{key: "tenant/damaged", raw: a.raw[:len(a.raw)/2]}
	if _, err := e.Chat(t.Context(), damaged.ask("When?")); !errors.Is(err, head.ErrArtifact) {
		t.Errorf("damaged: %v", err)
	}
	nameless := &artifact{raw: a.raw}
	if _, err := e.Chat(t.Context(), nameless.ask("When?")); engine.KindOf(err) != engine.Failed || nameless.read.Load() != 0 {
		t.Errorf("without a key: %v", err)
	}
	if _, err := e.Chat(t.Context(), a.ask(" ")); engine.KindOf(err) != engine.BadRequest {
		t.Errorf("an empty question: %v", err)
	}
	if _, err := e.Chat(t.Context(), &engine.ChatRequest{Model: "ft:x", Messages: a.ask("When?").Messages}); engine.KindOf(err) != engine.Unsupported {
		t.Errorf("a tuned model's name without its artifact: %v", err)
	}
}

// Many who ask at once read once; one who leaves takes nobody along; keys don't mix.
func TestTunedLoadsOnce(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	models := []*artifact{
		{key: "tenant-1/m", raw: trained(t, " One."), hold: make(chan struct{})},
		{key: "tenant-2/m", raw: trained(t, " Two."), hold: make(chan struct{})},
	}
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := e.Chat(ctx, models[0].ask("When do you open?"))
		left <- err
	}()
	for models[0].read.Load() == 0 {
		if t.Context().Err() != nil {
			t.Fatal("nobody reads")
		}
	}
	leave()
	if err := <-left; err == nil {
		t.Error("who left got an answer")
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			a := models[i%2]
			res, err := e.Chat(t.Context(), a.ask("When do you open?"))
			if err != nil {
				t.Errorf("%s: %v", a.key, err)
				return
			}
			if text := content(t, res.Choices[0].Message); !strings.HasSuffix(text, []string{" One.", " Two."}[i%2]) {
				t.Errorf("%s said %q", a.key, text)
			}
		})
	}
	for _, a := range models {
		close(a.hold)
	}
	group.Wait()
	for _, a := range models {
		if n := a.read.Load(); n != 1 {
			t.Errorf("%s was read %d times", a.key, n)
		}
	}
}

func TestTunedEvicts(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	raw := trained(t, "")
	models := []*artifact{{key: "t/1", raw: raw}, {key: "t/2", raw: raw}, {key: "t/3", raw: raw}}
	says(t, e, models[0].ask("When?"))
	one := e.HeadBytes()
	if one < int64(len(raw))/2 {
		t.Fatalf("a head of %d bytes takes %d", len(raw), one)
	}
	e.KeepHeads(2*one + one/2)
	for _, at := range []int{1, 0, 2, 0, 1} { // 2 drives 1 out, 1 drives 2 out
		says(t, e, models[at].ask("When?"))
		if got := e.HeadBytes(); got > 2*one {
			t.Errorf("%d bytes kept, %d allowed", got, 2*one)
		}
	}
	var reads []int32
	for _, a := range models {
		reads = append(reads, a.read.Load())
	}
	if !slices.Equal(reads, []int32{1, 2, 1}) {
		t.Errorf("read %v times", reads)
	}
	e.KeepHeads(0)
	if e.HeadBytes() != 0 {
		t.Errorf("%d bytes kept of none", e.HeadBytes())
	}
	says(t, e, models[0].ask("When?"))
}

// The vectors of head's strangers are the encoder's, as far as a byte goes.
func TestStrangerVectors(t *testing.T) {
	t.Parallel()
	all := head.Strangers()
	for at := 0; at < len(all); at += 20 {
		if c := cosine(head.StrangerVector(at), encode(t, all[at])); c < 0.99 || c > 1.02 {
			t.Errorf("%q: cosine %.4f; run go run ./convert/strangers", all[at], c)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("there are more vectors than strangers")
		}
	}()
	head.StrangerVector(len(all))
}
