package openai_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"freehold/inference/engine"
	"freehold/inference/engine/openai"
)

// What an upstream sends back of a request, its key or its words, is in no error
// for the log, and its key in none for the client, wherever it puts them.
func TestFailuresKeepSecrets(t *testing.T) {
	t.Parallel()
	const prompt = "hi"
	for name, answer := range map[string]http.HandlerFunc{
		"as code":      says(403, `{"error":{"message":"m","code":"`+key+`","type":"x-`+key+`"}}`),
		"as parameter": says(400, `{"error":{"message":"m `+key+`","param":"`+key+`","type":"invalid_request_error"}}`),
		"in band":      says(200, `{"error":{"message":"`+key+`","param":"`+key+`","code":400}}`),
		"a word":       says(500, `{"error":{"message":"m","code":"`+prompt+`","type":"`+prompt+`"}}`),
		"as status": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s %q\r\n\r\n", r.Header.Get("Authorization"), prompt)
				_ = conn.Close()
			}
		},
		"as header": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n", r.Header.Get("Authorization"))
				_ = conn.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			e := serve(t, answer, func(c *openai.Config) { c.Logger, c.Tries = slog.New(slog.NewTextHandler(&log, nil)), 1 })
			_, err := e.Chat(t.Context(), chat())
			fail, ok := err.(*engine.Error) //nolint:errorlint // the contract
			if !ok {
				t.Fatalf("got %T", err)
			}
			logged := fmt.Sprint(log.String(), fail, fail.Err)
			if strings.Contains(logged, key) || strings.Contains(logged, `"`+prompt) {
				t.Errorf("for the log: %s", logged)
			}
			if told := fail.Message + fail.Param; strings.Contains(told, key) {
				t.Errorf("for the client: %s", told)
			}
		})
	}
}
