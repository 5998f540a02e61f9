package privacy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// heard is what an answer's first choice says.
type heard struct {
	text      string
	arguments string // of the first function that is called
	input     string // of the first custom tool
	error     string // message of the error, or of the stream's last event
}

type said struct {
	Choices []struct {
		Index          int
		Message, Delta message
	}
	Output struct{ Text string } // of a prediction
	Error  *struct{ Message string }
}

type message struct {
	Content   string
	ToolCalls []struct {
		Index    int
		Function struct{ Arguments string }
		Custom   struct{ Input string }
	} `json:"tool_calls"`
}

// hear reads an answer, whole or streamed.
func hear(t testing.TB, a answer) (h heard) {
	t.Helper()
	if !strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
		h.add(t, a.body)
		return h
	}
	for event := range strings.SplitSeq(a.body, "\n\n") {
		if data, ok := strings.CutPrefix(event, "data: "); ok && data != "[DONE]" {
			h.add(t, data)
		}
	}
	return h
}

func (h *heard) add(t testing.TB, text string) {
	t.Helper()
	var s said
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Errorf("%v in %q", err, text)
		return
	}
	if s.Error != nil {
		h.error = s.Error.Message
	}
	h.text += s.Output.Text
	for _, c := range s.Choices {
		if c.Index != 0 {
			continue
		}
		for _, m := range []message{c.Message, c.Delta} {
			h.text += m.Content
			for _, call := range m.ToolCalls {
				h.arguments += call.Function.Arguments
				h.input += call.Custom.Input
			}
		}
	}
}

// restored checks that a text has the values of which that is to be said, and none
// of the others.
func restored(what, text string, mine []planted) error {
	for _, one := range mine {
		if has := strings.Contains(text, one.value); has == one.oneWay {
			return fmt.Errorf("%s: %s %q is there: %t", what, one.kind, one.value, has)
		}
	}
	return nil
}

// restoredJSON checks a tool call's arguments, or a text that was to be JSON: it is,
// also inside.
func restoredJSON(what, text string, mine []planted) error {
	var doc struct {
		List   []string
		Nested string
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var nested []string
	if err := json.Unmarshal([]byte(doc.Nested), &nested); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := restored(what, strings.Join(doc.List, "\n"), mine); err != nil {
		return err
	}
	return restored(what+" inside", strings.Join(nested, "\n"), mine)
}

func decode(t testing.TB, a answer, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Errorf("%v in %q", err, a.body)
	}
}
