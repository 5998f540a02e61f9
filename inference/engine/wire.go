package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
)

// ChatRequest is a chat completion request. What the pipeline or the built-in
// engine reads has a field; every other accepted parameter is in Params, as it
// came, and goes to an upstream unchanged.
type ChatRequest struct {
	Model         string
	Messages      []Message
	N             int  // 0 means 1
	MaxTokens     *int // max_completion_tokens, or the deprecated max_tokens
	Stop          []string
	Stream        bool
	IncludeUsage  bool // stream_options.include_usage
	User          string
	Params        map[string]json.RawMessage
	MaxTokensName string // the name it came under; empty: max_completion_tokens
	// Scope separates what an engine may cache: nothing kept for one scope is
	// used for another. The pipeline sets it; it never leaves the process.
	Scope string
	// Tuned is the tenant's own model that Model names, for engines that serve its
	// artifact themselves, which others refuse as Unsupported; nil: Model is the engine's.
	Tuned *Tuned `json:"-"`
}

// Tuned is a fine-tuned model's artifact.
type Tuned struct {
	// Key names it in caches. It is immutable: equal keys, equal bytes. It begins
	// with the tenant's id, so that no two tenants' are equal.
	Key  string
	Name string // the model's, for the tenant
	// Read opens a file of the artifact, and says how long it is; the caller closes.
	Read func(ctx context.Context, file string) (io.ReadCloser, int64, error)
}

// Members returns the request's members as they go over the wire, all but model,
// stream and stream_options, which are for whoever sends it. The map is the caller's.
func (r *ChatRequest) Members() map[string]any {
	all := make(map[string]any, len(r.Params)+8)
	for k, v := range r.Params {
		all[k] = v
	}
	all["messages"] = r.Messages
	if r.N > 0 {
		all["n"] = r.N
	}
	if r.MaxTokens != nil {
		// What was granted is said once: an upstream that found the limit under both
		// names would refuse, or choose.
		delete(all, "max_tokens")
		delete(all, "max_completion_tokens")
		name := r.MaxTokensName
		if name == "" {
			name = "max_completion_tokens"
		}
		all[name] = *r.MaxTokens
	}
	if len(r.Stop) > 0 {
		all["stop"] = r.Stop
	}
	if r.User != "" {
		all["user"] = r.User
	}
	return all
}

// Message is one message of a conversation. Content is a string, an array of
// parts, or null, as it came; Rest holds the other members (tool_calls, refusal…).
type Message struct {
	Role    string
	Content json.RawMessage
	Rest    map[string]json.RawMessage
}

// Text returns the message's text: the string, or its text parts joined by line
// breaks. Other parts are left out.
func (m Message) Text() string {
	var s string
	if json.Unmarshal(m.Content, &s) == nil {
		return s
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(m.Content, &parts) != nil {
		return ""
	}
	var b bytes.Buffer
	for _, p := range parts {
		if p.Type == "text" {
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(p.Text)
		}
	}
	return b.String()
}

// TextContent encodes s as a message's content.
func TextContent(s string) json.RawMessage {
	b, _ := json.Marshal(s) //nolint:errchkjson // a string always encodes
	return b
}

// UnmarshalJSON reads a message object.
func (m *Message) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*m = Message{Content: all["content"]}
	if err := json.Unmarshal(all["role"], &m.Role); err != nil || m.Role == "" {
		return errors.New("role: want a string")
	}
	delete(all, "role")
	delete(all, "content")
	if len(all) > 0 {
		m.Rest = all
	}
	return nil
}

// MarshalJSON writes a message object.
func (m Message) MarshalJSON() ([]byte, error) {
	all := make(map[string]json.RawMessage, len(m.Rest)+2)
	maps.Copy(all, m.Rest)
	role, err := json.Marshal(m.Role)
	if err != nil {
		return nil, err
	}
	all["role"] = role
	all["content"] = m.Content // nil encodes as null
	return json.Marshal(all)
}

// Usage counts tokens, as the engine that did the work counts them. Details are
// the upstream's, as they came.
type Usage struct {
	PromptTokens            int64           `json:"prompt_tokens"`
	CompletionTokens        int64           `json:"completion_tokens"`
	TotalTokens             int64           `json:"total_tokens"`
	PromptTokensDetails     json.RawMessage `json:"prompt_tokens_details,omitempty"`
	CompletionTokensDetails json.RawMessage `json:"completion_tokens_details,omitempty"`
}

// ChatResponse is a whole answer. The pipeline sets ID, Created and Model.
type ChatResponse struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"` // chat.completion
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []ChatChoice `json:"choices"`
	Usage   Usage        `json:"usage"`
}

// ChatChoice is one of n answers. Message is the upstream's object as it came,
// or made with AnswerMessage.
type ChatChoice struct {
	Index        int             `json:"index"`
	Message      json.RawMessage `json:"message"`
	Logprobs     json.RawMessage `json:"logprobs"` // null when absent
	FinishReason string          `json:"finish_reason"`
	// Class is a classifier's verdict; nil: the model is none. Predictions show it.
	Class *Class `json:"-"`
}

// Class is a label, and what each label scored, between 0 and 1. Who abstains
// names the best label all the same, and doesn't answer with it.
type Class struct {
	Label     string             `json:"label"`
	Scores    map[string]float64 `json:"scores"`
	Abstained bool               `json:"abstained,omitempty"`
}

// AnswerMessage makes an assistant's message of plain text.
func AnswerMessage(text string) json.RawMessage {
	b, _ := json.Marshal(map[string]any{"role": "assistant", "content": text, "refusal": nil}) //nolint:errchkjson // strings always encode
	return b
}

// ChatChunk is one event of a stream. The pipeline sets ID, Object, Created, Model
// and UsageAsked, the same on every chunk. Where usage was asked for, each chunk
// encodes a member usage, null on all but the last.
type ChatChunk struct {
	ID      string        `json:"id"`
	Object  string        `json:"object"` // chat.completion.chunk
	Created int64         `json:"created"`
	Model   string        `json:"model"`
	Choices []ChunkChoice `json:"choices"` // [] on the usage chunk, never null
	Usage   *Usage        `json:"usage,omitempty"`

	UsageAsked bool `json:"-"`
}

// MarshalJSON writes a chunk. It never has a member error, not even a null one,
// which the official Go client takes for a failure.
func (c ChatChunk) MarshalJSON() ([]byte, error) {
	type plain ChatChunk
	if c.Choices == nil {
		c.Choices = []ChunkChoice{}
	}
	if !c.UsageAsked {
		return json.Marshal(plain(c))
	}
	return json.Marshal(struct {
		plain
		Usage *Usage `json:"usage"`
	}{plain(c), c.Usage})
}

// ChunkChoice is one choice's delta. Delta is the upstream's object as it came,
// or made with TextDelta.
type ChunkChoice struct {
	Index        int             `json:"index"`
	Delta        json.RawMessage `json:"delta"`
	Logprobs     json.RawMessage `json:"logprobs,omitempty"`
	FinishReason *string         `json:"finish_reason"`
}

// TextDelta makes a delta; role is set on a choice's first one only, and an
// empty text with no role is the empty delta of the last.
func TextDelta(role, text string) json.RawMessage {
	d := map[string]string{}
	if role != "" {
		d["role"] = role
	}
	if role != "" || text != "" {
		d["content"] = text
	}
	b, _ := json.Marshal(d) //nolint:errchkjson // strings always encode
	return b
}

// EmbedRequest asks for a vector for each input. Dimensions 0 means the model's own.
type EmbedRequest struct {
	Model      string
	Input      []string
	Dimensions int
	User       string
	Store      *bool  // the client's store, for the pipeline: no engine is sent it
	Scope      string // as in ChatRequest
}

// EmbedResponse holds a vector for each input, in order.
type EmbedResponse struct {
	Vectors [][]float32
	Usage   Usage // CompletionTokens is 0
}
