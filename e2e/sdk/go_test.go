//go:build e2e

package sdk_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

// goClient is openai-go with a tenant behind it.
type goClient struct {
	openai.Client
	*ground
}

// testGo runs openai-go's cases, one after the other: some change the tenant.
func testGo(t *testing.T, g *ground) {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := goClient{openai.NewClient(
		option.WithBaseURL(g.door.url), option.WithAPIKey(g.key), option.WithHTTPClient(&http.Client{Transport: transport}),
	), g}
	for _, s := range []struct {
		name string
		run  func(*testing.T, goClient)
	}{
		{"chat", goChat}, {"stream", goStream}, {"abort", goAbort}, {"tools", goTools}, {"streamed tools", goStreamedTools},
		{"parameters", goParameters}, {"embeddings", goEmbeddings}, {"models", goModels}, {"paging", goPaging}, {"files", goFiles},
		{"errors", goErrors}, {"broken stream", goBrokenStream}, {"retries", goRetries}, {"slots", goSlots},
		{"idempotency", goIdempotency}, {"exhausted", goExhausted},
	} {
		t.Run(s.name, func(t *testing.T) {
			g.door.reset()
			s.run(t, c)
		})
	}
}

// ask asks the slug's model.
func (c goClient) ask(model, text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: c.slug + model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)},
	}
}

func goChat(t *testing.T, c goClient) {
	var raw *http.Response
	got, err := c.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{
		Model: "freehold-answer-1",
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage("Our warehouse stands in Rotterdam. Gift cards never expire."), openai.UserMessage("Where is the warehouse?"),
		},
	}, option.WithResponseInto(&raw))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.Choices[0].Message.Content, "Rotterdam") || got.Choices[0].FinishReason != "stop" || got.Model != "freehold-answer-1" {
		t.Errorf("got %s", got.RawJSON())
	}
	if u := got.Usage; u.PromptTokens == 0 || u.CompletionTokens == 0 || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
		t.Errorf("usage %+v", u)
	}
	wantHeaders(t, raw.Header)
}

// wantHeaders checks what each inference answer bears for the SDKs.
func wantHeaders(t *testing.T, h http.Header) {
	t.Helper()
	for _, name := range []string{
		"X-Request-Id", "Openai-Processing-Ms", "Openai-Version", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens",
		"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests",
	} {
		if h.Get(name) == "" {
			t.Errorf("no header %s", name)
		}
	}
	for _, name := range []string{"X-Ratelimit-Reset-Tokens", "X-Ratelimit-Reset-Requests"} {
		if d, err := time.ParseDuration(h.Get(name)); err != nil || d < 0 {
			t.Errorf("header %s is %q", name, h.Get(name))
		}
	}
}

func goStream(t *testing.T, c goClient) {
	params := c.ask(echoModel, "hello there")
	params.N = openai.Int(2)
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	var raw *http.Response
	stream := c.Chat.Completions.NewStreaming(t.Context(), params, option.WithResponseInto(&raw))
	acc := openai.ChatCompletionAccumulator{}
	usages := 0
	for stream.Next() {
		chunk := stream.Current()
		if !acc.AddChunk(chunk) || chunk.ID == "" || chunk.Model != c.slug+echoModel || chunk.Created == 0 {
			t.Errorf("chunk doesn't fit: %s", chunk.RawJSON())
		}
		if chunk.JSON.Usage.Valid() {
			usages++
			if len(chunk.Choices) != 0 {
				t.Errorf("usage beside choices: %s", chunk.RawJSON())
			}
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if len(acc.Choices) != 2 || usages != 1 || acc.Usage.TotalTokens == 0 {
		t.Fatalf("%d choices, %d usages: %+v", len(acc.Choices), usages, acc.Usage)
	}
	for _, choice := range acc.Choices {
		if choice.Message.Content != "hello there" || choice.FinishReason != "stop" {
			t.Errorf("got %q, ends by %q", choice.Message.Content, choice.FinishReason)
		}
	}
	wantHeaders(t, raw.Header)

	// Not asked for, usage doesn't come.
	stream = c.Chat.Completions.NewStreaming(t.Context(), c.ask(echoModel, "hello"))
	for stream.Next() {
		if chunk := stream.Current(); len(chunk.Choices) == 0 || chunk.JSON.Usage.Valid() {
			t.Errorf("usage without being asked: %s", chunk.RawJSON())
		}
	}
	if stream.Err() != nil {
		t.Error(stream.Err())
	}
}

// A client that stops reading stops the engine within a second.
func goAbort(t *testing.T, c goClient) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := c.Chat.Completions.NewStreaming(ctx, c.ask(echoModel, "slow"))
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	at := time.Now()
	cancel()
	_ = stream.Close()
	select {
	case left := <-c.upstream.left:
		if took := left.Sub(at); took > time.Second {
			t.Errorf("the engine went on for %v", took)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the engine wasn't cancelled")
	}
}

func weather() []openai.ChatCompletionToolUnionParam {
	return []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name: "weather", Description: openai.String("The weather in a city"), Strict: openai.Bool(true),
		Parameters: shared.FunctionParameters{
			"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}, "required": []string{"city"},
		},
	})}
}

func goTools(t *testing.T, c goClient) {
	params := c.ask(echoModel, "How is it in Oslo?")
	params.Tools = weather()
	got, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	message := got.Choices[0].Message
	if got.Choices[0].FinishReason != "tool_calls" || len(message.ToolCalls) != 1 || message.ToolCalls[0].Function.Arguments != `{"city":"Oslo"}` {
		t.Fatalf("got %s", got.RawJSON())
	}
	params.Messages = append(params.Messages, message.ToParam(), openai.ToolMessage("rain", message.ToolCalls[0].ID))
	got, err = c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if got.Choices[0].Message.Content != "The tool says rain" || got.Choices[0].FinishReason != "stop" {
		t.Errorf("got %s", got.RawJSON())
	}
}

func goStreamedTools(t *testing.T, c goClient) {
	params := c.ask(echoModel, "How is it in Oslo?")
	params.Tools = weather()
	stream := c.Chat.Completions.NewStreaming(t.Context(), params)
	acc := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	if stream.Err() != nil || len(acc.Choices) != 1 || len(acc.Choices[0].Message.ToolCalls) != 1 {
		t.Fatalf("%v, %+v", stream.Err(), acc.Choices)
	}
	call := acc.Choices[0].Message.ToolCalls[0]
	if call.ID != "call_1" || call.Function.Name != "weather" || call.Function.Arguments != `{"city":"Oslo"}` || acc.Choices[0].FinishReason != "tool_calls" {
		t.Errorf("got %+v", call)
	}
}

// What only an engine understands reaches it as it was sent.
func goParameters(t *testing.T, c goClient) {
	params := c.ask(echoModel, "hello")
	params.N, params.Seed, params.Temperature = openai.Int(2), openai.Int(7), openai.Float(0.5)
	params.Stop = openai.ChatCompletionNewParamsStopUnion{OfStringArray: []string{"END"}}
	params.ReasoningEffort = shared.ReasoningEffortLow
	params.Tools = nil
	params.ResponseFormat = openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{
		JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "answer", Strict: openai.Bool(true), Schema: map[string]any{"type": "object"}},
	}}
	got, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Choices) != 2 || got.Choices[1].Index != 1 || got.Choices[1].Message.Content != "hello" {
		t.Errorf("got %s", got.RawJSON())
	}
	body, _ := c.upstream.seen()
	var sent map[string]json.RawMessage
	if err := json.Unmarshal(body, &sent); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"model": `"up"`, "n": `2`, "seed": `7`, "temperature": `0.5`, "stop": `["END"]`, "reasoning_effort": `"low"`,
		"response_format": `{"json_schema":{"name":"answer","strict":true,"schema":{"type":"object"}},"type":"json_schema"}`,
	} {
		if string(sent[name]) != want {
			t.Errorf("the engine was sent %s %s, want %s", name, sent[name], want)
		}
	}
}

func goEmbeddings(t *testing.T, c goClient) {
	params := openai.EmbeddingNewParams{
		Model: "freehold-embed-1", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a cat", "a dog"}},
	}
	got, err := c.Embeddings.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	params.EncodingFormat = openai.EmbeddingNewParamsEncodingFormatFloat
	floats, err := c.Embeddings.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Data) != 2 || len(got.Data[1].Embedding) < 64 || got.Data[1].Index != 1 || !slices.Equal(got.Data[1].Embedding, floats.Data[1].Embedding) {
		t.Errorf("got %d vectors, of %d numbers", len(got.Data), len(got.Data[0].Embedding))
	}
	if got.Usage.PromptTokens == 0 || got.Usage.TotalTokens != got.Usage.PromptTokens {
		t.Errorf("usage %+v", got.Usage)
	}
	params.Input = openai.EmbeddingNewParamsInputUnion{OfArrayOfTokens: []int64{1, 2}}
	_, err = c.Embeddings.New(t.Context(), params)
	c.refused(t, err, 400, "invalid_request", "input[0]")
}

func goModels(t *testing.T, c goClient) {
	var ids []string
	pages := c.Models.ListAutoPaging(t.Context())
	for pages.Next() {
		ids = append(ids, pages.Current().ID)
	}
	if pages.Err() != nil || !slices.Contains(ids, c.slug+echoModel) || !slices.Contains(ids, "freehold-answer-1") {
		t.Errorf("got %v, %v", ids, pages.Err())
	}
	m, err := c.Models.Get(t.Context(), c.slug+echoModel)
	if err != nil || m.ID != c.slug+echoModel || m.Object != "model" {
		t.Errorf("got %+v, %v", m, err)
	}
	if n := len(c.door.counted()); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
}

// The SDK has no predictions; its pager of another list reads ours.
func goPaging(t *testing.T, c goClient) {
	for _, text := range []string{"one", "two", "three", "four", "five"} {
		if _, err := c.Chat.Completions.New(t.Context(), c.ask(echoModel, text)); err != nil {
			t.Fatal(err)
		}
	}
	c.door.reset()
	elsewhere := option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		r.URL.Path = strings.Replace(r.URL.Path, "/fine_tuning/jobs", "/predictions", 1)
		return next(r)
	})
	pages := c.FineTuning.Jobs.ListAutoPaging(t.Context(), openai.FineTuningJobListParams{Limit: openai.Int(2)}, elsewhere)
	seen := map[string]bool{}
	for pages.Next() && len(seen) < 1000 {
		seen[pages.Current().ID] = true
	}
	if err := pages.Err(); err != nil {
		t.Fatal(err)
	}
	if n := len(c.door.counted()); len(seen) < 5 || n != (len(seen)+1)/2 {
		t.Errorf("%d predictions on %d pages of 2", len(seen), n)
	}
}
