package api_test

import (
	"net/http"
	"testing"

	"github.com/openai/openai-go/v3"
)

// Nothing is set but the two variables that the SDK reads by itself.
func TestSDKFromEnvironment(t *testing.T) {
	b := setup(t)
	t.Setenv("OPENAI_BASE_URL", b.url+"/v1")
	t.Setenv("OPENAI_API_KEY", b.client.Token)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	client := openai.NewClient()

	answer, err := client.Chat.Completions.New(t.Context(), ask("chat-1", "hello there"))
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Choices[0].Message.Content; got != "HELLO THERE" {
		t.Errorf("chat: %q", got)
	}
	stream := client.Chat.Completions.NewStreaming(t.Context(), ask("chat-1", "one two"))
	text := ""
	for stream.Next() {
		for _, c := range stream.Current().Choices {
			text += c.Delta.Content
		}
	}
	if stream.Err() != nil || text != "ONE TWO " {
		t.Errorf("stream: %q, %v", text, stream.Err())
	}
	vectors, err := client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: "embed-1", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("four")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(vectors.Data) != 1 || len(vectors.Data[0].Embedding) == 0 {
		t.Errorf("embeddings: %s", vectors.RawJSON())
	}
}
