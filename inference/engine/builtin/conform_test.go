package builtin_test

import (
	"testing"

	"freehold/inference/engine"
	"freehold/inference/engine/builtin"
	"freehold/inference/engine/enginetest"
)

func TestConforms(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	enginetest.Run(t, func(*testing.T) enginetest.Subject {
		return enginetest.Subject{
			Engine: e, Model: builtin.AnswerModel, EmbedModel: builtin.EmbedModel, Deterministic: true,
			Messages: func(canary string) []engine.Message {
				return []engine.Message{
					{Role: "system", Content: engine.TextContent(tenFacts + " The warehouse of " + canary + " stands in Lisbon.")},
					{Role: "user", Content: engine.TextContent("Where is the warehouse of " + canary + "?")},
				}
			},
			Refused: func(canary string) *engine.ChatRequest {
				return &engine.ChatRequest{
					Model:    builtin.AnswerModel,
					Messages: []engine.Message{{Role: "system", Content: engine.TextContent(canary)}},
				}
			},
		}
	})
}
