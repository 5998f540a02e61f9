package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	builtinengine "freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
)

var accuracyCases = []string{"accuracy", "accuracy_vs_nearest", "accuracy_vs_ngram", "accuracy_at_80", "out_of_scope_answered"}

// finetuneAccuracy trains on each test corpus as a job does, and asks what was held
// out. The rounds are the corpora: training is deterministic.
func finetuneAccuracy(ctx context.Context, b *bench) error {
	all, err := corpora()
	if err != nil {
		return err
	}
	rounds := map[string][]float64{}
	var notes []string
	for _, c := range all {
		if !c.test {
			continue
		}
		b.progress("accuracy, %s", c.name)
		s, err := score(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		rounds["accuracy"] = append(rounds["accuracy"], s.accuracy)
		rounds["accuracy_vs_nearest"] = append(rounds["accuracy_vs_nearest"], s.accuracy/s.nearest)
		rounds["accuracy_vs_ngram"] = append(rounds["accuracy_vs_ngram"], s.accuracy/s.ngram)
		rounds["accuracy_at_80"] = append(rounds["accuracy_at_80"], s.at80)
		rounds["out_of_scope_answered"] = append(rounds["out_of_scope_answered"], s.foreign)
		notes = append(notes, fmt.Sprintf("%s: %.2f right, %.2f of the surer 80 %%, nearest %.2f, n-grams %.2f, itself answered %.2f, %.2f of it right, %.2f of strangers",
			c.name, s.accuracy, s.at80, s.nearest, s.ngram, s.coverage, s.precision, s.foreign))
	}
	note := strings.Join(notes, "; ")
	goals := []*goal{atLeast(0.70), atLeast(1), atLeast(1), atLeast(0.80), atMost(0.15)}
	for i, name := range accuracyCases {
		if err := b.emit(name, "share", goals[i], rounds[name], note); err != nil {
			return err
		}
		note = ""
	}
	return nil
}

// scores of one corpus.
type scores struct{ accuracy, nearest, ngram, at80, foreign, coverage, precision float64 }

func score(ctx context.Context, c corpus) (scores, error) {
	var s scores
	raw, err := train(ctx, c.train)
	if err != nil {
		return s, err
	}
	m, err := newTuned(raw)
	if err != nil {
		return s, err
	}
	type outcome struct {
		confidence float64
		right      bool
	}
	var outcomes []outcome
	n, answered, answeredRight := float64(len(c.held)), 0.0, 0.0
	for _, p := range c.held {
		v, err := m.ask(ctx, p.prompt)
		if err != nil {
			return s, err
		}
		right := v.Answer == p.answer
		outcomes = append(outcomes, outcome{v.Confidence, right})
		s.accuracy += share(right) / n
		answered += share(!v.Abstained)
		answeredRight += share(!v.Abstained && right)
	}
	s.coverage, s.precision = answered/n, answeredRight/max(answered, 1)
	slices.SortStableFunc(outcomes, func(a, b outcome) int { return cmp.Compare(b.confidence, a.confidence) })
	sure := outcomes[:(len(outcomes)*4+4)/5]
	for _, o := range sure {
		s.at80 += share(o.right) / float64(len(sure))
	}
	for _, q := range c.foreign {
		v, err := m.ask(ctx, q)
		if err != nil {
			return s, err
		}
		s.foreign += share(!v.Abstained) / float64(len(c.foreign))
	}
	if s.nearest, err = nearest(ctx, c); err != nil {
		return s, err
	}
	s.ngram = ngrams(c)
	return s, nil
}

func share(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// nearest is the accuracy of the nearest neighbour by the encoder's cosine.
func nearest(ctx context.Context, c corpus) (float64, error) {
	e, err := builtinengine.Load()
	if err != nil {
		return 0, err
	}
	encode := func(list []lesson) (texts []string) {
		for _, p := range list {
			texts = append(texts, head.Normalize(p.prompt))
		}
		return texts
	}
	known, err := e.EncodeAll(ctx, encode(c.train))
	if err != nil {
		return 0, err
	}
	asked, err := e.EncodeAll(ctx, encode(c.held))
	if err != nil {
		return 0, err
	}
	right := 0.0
	for i, q := range asked {
		best, at := float32(-2), 0
		for j, v := range known {
			sum := float32(0)
			for d := range q {
				sum += q[d] * v[d]
			}
			if sum > best {
				best, at = sum, j
			}
		}
		right += share(c.train[at].answer == c.held[i].answer)
	}
	return right / float64(len(asked)), nil
}
