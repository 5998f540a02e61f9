package api_test

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"freehold/cmd/freehold/rest/resttest"
)

// events are the data lines of a stream.
func events(t *testing.T, a resttest.Answer) []string {
	t.Helper()
	if got := a.Header.Get("Content-Type"); a.Status != 200 || got != "text/event-stream; charset=utf-8" {
		t.Fatalf("%d %s: %s", a.Status, got, a.Body)
	}
	var list []string
	s := bufio.NewScanner(strings.NewReader(a.Body))
	for s.Scan() {
		switch data, ok := strings.CutPrefix(s.Text(), "data: "); {
		case ok:
			list = append(list, data)
		case s.Text() != "" && !strings.HasPrefix(s.Text(), ":"):
			t.Errorf("line %q", s.Text())
		}
	}
	if !strings.HasSuffix(a.Body, "\n\n") {
		t.Errorf("the last event isn't closed: %q", a.Body)
	}
	return list
}

// The wire shapes that the SDKs need, to the letter.
func TestShapes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	t.Run("chat", func(t *testing.T) {
		var got map[string]any
		a := b.client.Do("POST", "/v1/chat/completions", hello, "X-Request-Id", "req-7")
		a.Into(200, &got)
		choice, _ := got["choices"].([]any)[0].(map[string]any)
		message, _ := choice["message"].(map[string]any)
		if got["object"] != "chat.completion" || got["model"] != "chat-1" || message["content"] != "HELLO THERE" || choice["finish_reason"] != "stop" {
			t.Errorf("got %s", a.Body)
		}
		if !strings.HasPrefix(got["id"].(string), "chatcmpl-") {
			t.Errorf("id %v", got["id"])
		}
		if a.Header.Get("X-Request-Id") != "req-7" || a.Header.Get("Openai-Version") == "" || a.Header.Get("Openai-Processing-Ms") == "" {
			t.Errorf("headers %v", a.Header)
		}
	})
	t.Run("stream", func(t *testing.T) {
		for _, usage := range []bool{false, true} {
			body := strings.Replace(hello, "{", `{"stream":true,`, 1)
			if usage {
				body = strings.Replace(body, "{", `{"stream_options":{"include_usage":true},`, 1)
			}
			list := events(t, b.client.Do("POST", "/v1/chat/completions", body))
			if n := len(list); list[n-1] != "[DONE]" {
				t.Fatalf("ends with %q", list[n-1])
			}
			list = list[:len(list)-1]
			var id any
			text := ""
			for i, e := range list {
				var c map[string]any
				if err := json.Unmarshal([]byte(e), &c); err != nil {
					t.Fatal(err)
				}
				if id == nil {
					id = c["id"]
				}
				choices, isArray := c["choices"].([]any)
				if c["object"] != "chat.completion.chunk" || c["id"] != id || c["model"] != "chat-1" || !isArray {
					t.Errorf("chunk %s", e)
				}
				if _, has := c["error"]; has {
					t.Errorf("the Go SDK takes a null error for one: %s", e)
				}
				u, has := c["usage"]
				last := i == len(list)-1
				if has != usage || (u != nil) != (usage && last) || (len(choices) == 0) != (usage && last) {
					t.Errorf("usage asked %v, chunk %d of %d: %s", usage, i, len(list), e)
				}
				for _, ch := range choices {
					delta, _ := ch.(map[string]any)["delta"].(map[string]any)
					s, _ := delta["content"].(string)
					text += s
				}
			}
			if text != "HELLO THERE " {
				t.Errorf("text %q", text)
			}
		}
	})
	t.Run("embeddings", func(t *testing.T) {
		var got struct {
			Object string
			Data   []struct {
				Object    string
				Index     int
				Embedding json.RawMessage
			}
		}
		b.client.Do("POST", "/v1/embeddings", `{"model":"embed-1","input":["four","seven77"]}`).Into(200, &got)
		if got.Object != "list" || len(got.Data) != 2 || string(got.Data[1].Embedding) != "[7,1]" || got.Data[1].Index != 1 {
			t.Errorf("got %+v", got)
		}
		// As the Node SDK always asks.
		b.client.Do("POST", "/v1/embeddings", `{"model":"embed-1","input":"four","encoding_format":"base64"}`).Into(200, &got)
		var text string
		if err := json.Unmarshal(got.Data[0].Embedding, &text); err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != 8 {
			t.Fatalf("%q: %v", text, err)
		}
		if x := math.Float32frombits(binary.LittleEndian.Uint32(raw)); x != 4 {
			t.Errorf("first number %v, want 4", x)
		}
	})
	t.Run("models", func(t *testing.T) {
		var list struct {
			Object string
			Data   []struct {
				ID, Object, OwnedBy string
				Created             int64
			}
		}
		b.client.Do("GET", "/v1/models", "").Into(200, &list)
		if list.Object != "list" || len(list.Data) != 3 || list.Data[0].ID != "chat-1" || list.Data[0].Object != "model" || list.Data[0].Created == 0 {
			t.Errorf("got %+v", list)
		}
		for _, path := range []string{"/v1/models/meta-llama%2FLlama-3", "/v1/models/meta-llama/Llama-3"} {
			var m map[string]any
			b.client.Do("GET", path, "").Into(200, &m)
			if m["id"] != "meta-llama/Llama-3" || len(m) != 4 {
				t.Errorf("%s: %v", path, m)
			}
		}
	})
}

// Predictions page newest first, and hold what each kind of request left.
func TestPredictions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ids []string
	for _, text := range []string{"one", "two", "three"} {
		var p struct {
			ID, Object, State, Model string
			Output                   struct{ Text string }
			Usage                    map[string]int
		}
		b.client.Do("POST", "/v1/predictions", `{"model":"chat-1","inputs":"`+text+`"}`).Into(200, &p)
		if p.Object != "prediction" || p.State != "succeeded" || p.Output.Text != strings.ToUpper(text) || p.Usage["total_tokens"] != 2 {
			t.Errorf("got %+v", p)
		}
		ids = append([]string{p.ID}, ids...)
	}
	var got []string
	after := ""
	for pages := 1; ; pages++ {
		var page struct {
			Object  string
			Data    []struct{ ID string }
			HasMore bool   `json:"has_more"`
			LastID  string `json:"last_id"`
		}
		b.client.Do("GET", "/v1/predictions?limit=2"+after, "").Into(200, &page)
		for _, p := range page.Data {
			got = append(got, p.ID)
		}
		if !page.HasMore {
			if pages != 2 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		after = "&after=" + page.LastID
	}
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("got %v, want %v", got, ids)
	}
}
