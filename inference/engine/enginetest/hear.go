package enginetest

import (
	"context"
	"encoding/json"
	"testing"

	"freehold/inference/engine"
)

// said is what one choice says, however it came.
type said struct {
	text, finish, role string
	tools              string // names and arguments of the calls
}

// answer is a whole answer, or a stream put together.
type answer struct {
	choices map[int]*said
	usage   engine.Usage
	chunks  []*engine.ChatChunk
}

func (a *answer) of(i int) *said {
	if a.choices[i] == nil {
		a.choices[i] = &said{}
	}
	return a.choices[i]
}

// text is the first choice's.
func (a *answer) text() string { return a.of(0).text }

// message is a message, or a part of one.
type message struct {
	Role      string
	Content   *string
	ToolCalls []struct {
		Function struct{ Name, Arguments string }
	} `json:"tool_calls"`
}

func (s *said) add(t testing.TB, raw json.RawMessage) {
	t.Helper()
	var m message
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Errorf("%s is no message: %v", raw, err)
		return
	}
	s.role += m.Role
	if m.Content != nil {
		s.text += *m.Content
	}
	for _, c := range m.ToolCalls {
		s.tools += c.Function.Name + c.Function.Arguments
	}
}

// whole asks for a whole answer.
func whole(t testing.TB, e engine.Engine, req *engine.ChatRequest) *answer {
	t.Helper()
	resp, err := e.Chat(t.Context(), req)
	if err != nil {
		t.Fatalf("whole: %v", err)
	}
	a := &answer{choices: map[int]*said{}, usage: resp.Usage}
	for _, c := range resp.Choices {
		if a.choices[c.Index] != nil {
			t.Errorf("choice %d came twice", c.Index)
		}
		to := a.of(c.Index)
		to.add(t, c.Message)
		to.finish = c.FinishReason
	}
	return a
}

// streamed asks for a stream that ends well.
func streamed(t testing.TB, e engine.Engine, req *engine.ChatRequest) *answer {
	t.Helper()
	a, err := listen(t.Context(), t, e, req)
	if err != nil {
		t.Fatalf("streamed: %v", err)
	}
	return a
}

// listen puts a stream together and checks that its chunks are what they must be.
func listen(ctx context.Context, t testing.TB, e engine.Engine, req *engine.ChatRequest) (*answer, error) {
	t.Helper()
	own := *req
	own.Stream = true
	a := &answer{choices: map[int]*said{}}
	err := e.ChatStream(ctx, &own, func(c *engine.ChatChunk) error {
		a.chunks = append(a.chunks, c)
		if c.Usage != nil {
			a.usage = *c.Usage
		}
		for _, choice := range c.Choices {
			to := a.of(choice.Index)
			if to.finish != "" {
				t.Errorf("choice %d goes on after its end: %s", choice.Index, choice.Delta)
			}
			to.add(t, choice.Delta)
			if choice.FinishReason != nil {
				to.finish = *choice.FinishReason
			}
		}
		return nil
	})
	return a, err
}
