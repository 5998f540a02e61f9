package main

import (
	"strings"
	"testing"
)

// Corpora are what finetuneAccuracy says of them: nothing that is asked was learnt.
func TestCorpora(t *testing.T) {
	t.Parallel()
	all, err := corpora()
	if err != nil {
		t.Fatal(err)
	}
	tests, seen := 0, map[string]string{}
	for _, c := range all {
		if c.test {
			tests++
		}
		learnt, held := map[string]int{}, map[string]int{}
		for _, p := range c.train {
			learnt[p.answer]++
		}
		for _, p := range c.held {
			held[p.answer]++
		}
		if len(learnt) < 24 || len(held) != len(learnt) || len(c.foreign) < 40 {
			t.Errorf("%s: %d answers, %d asked for, %d questions without one", c.name, len(learnt), len(held), len(c.foreign))
		}
		for answer, n := range learnt {
			if n != 3 || held[answer] < 2 {
				t.Errorf("%s: %q has %d prompts and %d held out", c.name, answer, n, held[answer])
			}
		}
		once := func(prompt string) {
			key := c.name + strings.ToLower(prompt)
			if seen[key] != "" {
				t.Errorf("%s: %q stands there twice", c.name, prompt)
			}
			seen[key] = prompt
		}
		for _, p := range c.train {
			once(p.prompt)
		}
		for _, p := range c.held {
			once(p.prompt)
		}
		for _, q := range c.foreign {
			once(q)
		}
	}
	if tests < 2 || len(all)-tests < 2 {
		t.Errorf("%d corpora, %d of them to test on", len(all), tests)
	}
}
