package inference_test

import (
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"freehold/inference"
	"freehold/inference/engine"
)

func FuzzParseChat(f *testing.F) {
	seed(f, with(`,"tools":[{"type":"function","function":{"name":"f"}}],"stop":["a"],"n":2`),
		said(`[{"role":"assistant","tool_calls":[{}]}]`),
		said(`[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:"}}]}]`),
		with(`,"stream":true,"stream_options":{"include_usage":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := inference.ParseChat(body)
		checkChat(t, req, err)
		if err == nil && req.N > 128 {
			t.Errorf("n is %d", req.N)
		}
	})
}

func FuzzPredict(f *testing.F) {
	seed(f, `{"model":"m","inputs":"a","store":false}`, `{"model":"m","inputs":{"system":"s","prompt":"p"}}`,
		`{"model":"m","inputs":{"text":"p"}}`, `{"model":"m","inputs":[{"role":"user","content":"a"}],"metadata":{"a":"b"}}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := inference.ParsePredict(body)
		checkChat(t, req, err)
		if err == nil && (req.Stream || req.N > 1 || req.Params["tools"] != nil) {
			t.Errorf("a prediction is one plain answer: %+v", req)
		}
	})
}

func FuzzParseEmbed(f *testing.F) {
	seed(f, `{"model":"m","input":["a","\ud800"]}`, `{"model":"m","input":"a","encoding_format":"base64","dimensions":2}`,
		`{"model":"m","input":[[1,2],[3]]}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		req, format, err := inference.ParseEmbed(body)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		if format != inference.Float && format != inference.Base64 {
			t.Errorf("format %q", format)
		}
		if len(req.Input) == 0 || len(req.Input) > 2048 || req.Model == "" || req.Dimensions < 0 {
			t.Errorf("accepted %+v", req)
		}
		for _, s := range req.Input {
			if s == "" || !utf8.ValidString(s) {
				t.Errorf("accepted the input %q", s)
			}
		}
	})
}

func seed(f *testing.F, bodies ...string) {
	f.Helper()
	for _, s := range append(bodies, `[[[[`, `{"a":1}{`, `null`, `{"model":"m"}`) {
		f.Add([]byte(s))
	}
}

// checkChat makes sure that what was accepted can be sent, and what was refused
// names its place.
func checkChat(t *testing.T, req *engine.ChatRequest, err error) {
	t.Helper()
	if err != nil {
		checkRefusal(t, err)
		return
	}
	raw, err := json.Marshal(req.Members())
	if err != nil || len(req.Messages) == 0 || req.Model == "" {
		t.Fatalf("accepted what can't be sent: %s, %v", raw, err)
	}
	var again struct{ Messages []engine.Message }
	if err := json.Unmarshal(raw, &again); err != nil || len(again.Messages) != len(req.Messages) {
		t.Errorf("what is sent reads as %d of %d messages: %v", len(again.Messages), len(req.Messages), err)
	}
}

func checkRefusal(t *testing.T, err error) {
	t.Helper()
	var bad *inference.BadRequest
	if !errors.As(err, &bad) || bad.Message == "" || !utf8.ValidString(bad.Param+bad.Message) {
		t.Errorf("got %#v, want a *BadRequest", err)
	}
}
