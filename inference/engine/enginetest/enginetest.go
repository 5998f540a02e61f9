// Package enginetest is the suite that each engine passes: what the pipeline
// relies on, whatever answers.
package enginetest

import (
	"encoding/json"
	"testing"

	"freehold/inference/engine"
)

// Subject is an engine under test, and what it can be asked. All fields but those
// that say so are required.
type Subject struct {
	Engine engine.Engine
	Model  string
	// Messages makes a conversation that is answered in three words or more. The
	// canary stands in it, so that nothing else repeats it but an answer.
	Messages func(canary string) []engine.Message
	// Refused is a request that the engine refuses as the client's fault, with the
	// canary in it.
	Refused func(canary string) *engine.ChatRequest
	// Failing is the engine, brought to fail; nil: it can't be.
	Failing engine.Engine
	// Secrets are in no error: the key.
	Secrets []string
	// Tools says that tools are passed through, and called when asked for. Else they
	// are refused by name.
	Tools bool
	// JSON says the same of response_format.
	JSON bool
	// Deterministic: the same request has the same answer.
	Deterministic bool
	// EmbedModel makes embeddings; empty: none does.
	EmbedModel string
}

// Run runs the suite. Each test has a subject of its own, which may share an
// engine with others.
func Run(t *testing.T, subject func(*testing.T) Subject) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Subject){
		"whole and streamed say the same": saysTheSame,
		"usage stands last":               usageLast,
		"several choices":                 choices,
		"stop":                            stops,
		"limit":                           limits,
		"cancelled before":                cancelledBefore,
		"cancelled within":                cancelledWithin,
		"cancelled meanwhile":             cancelledMeanwhile,
		"a client that is lost":           lostClient,
		"past its deadline":               pastDeadline,
		"refuses":                         refuses,
		"fails":                           fails,
		"tools":                           tools,
		"response_format":                 responseFormat,
		"many at once":                    concurrent,
		"the same again":                  deterministic,
		"the request stays as it is":      untouched,
		"embeddings":                      embeds,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, subject(t))
		})
	}
}

// canary is found nowhere by chance.
const canary = "Quetzalcoatl4711"

// request asks for a usual answer; edit may be nil.
func (s Subject) request(edit func(*engine.ChatRequest)) *engine.ChatRequest {
	req := &engine.ChatRequest{Model: s.Model, Messages: s.Messages(canary), Scope: "enginetest"}
	if edit != nil {
		edit(req)
	}
	return req
}

func params(name, value string) func(*engine.ChatRequest) {
	return func(r *engine.ChatRequest) { r.Params = map[string]json.RawMessage{name: json.RawMessage(value)} }
}
