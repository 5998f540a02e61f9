package main

import "context"

// finetuneContests measures fine-tuning: how good the built-in engine's tuned models
// are, what they cost, and what their training and files do to a node.
func finetuneContests(context.Context, *bench) ([]contest, func(), error) {
	return []contest{
		{"accuracy", accuracyCases, finetuneAccuracy},
		{"cost", []string{"cpu_s_1000"}, finetuneCost},
		{"encode", []string{"sentences_s"}, finetuneEncode},
		{"predict", []string{"predict_p50_ms"}, finetunePredict},
		uploadContest,
		interactiveContest,
	}, nil, nil
}
