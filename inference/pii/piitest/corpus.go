// Package piitest generates texts with personal data in known places, and scores
// what finds it. The values are made up and checksum-valid: cards pass Luhn, IBANs
// mod 97. Among them are near misses: order numbers, hashes, dates, versions.
//
// It is for tests and benchmarks alone and never linked into the program.
package piitest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"freehold/inference/pii"
)

// Sample is a text and what is to be found in it, in order.
type Sample struct {
	Text string
	Gold []pii.Match
}

// Corpus returns n samples, the same ones for the same seed.
func Corpus(seed uint64, n int) []Sample {
	g := generator{rand.New(rand.NewPCG(seed, 0x5eed))}
	samples := make([]Sample, n)
	for i := range samples {
		samples[i] = g.fill(templates[g.IntN(len(templates))])
	}
	return samples
}

// Prose returns about size bytes of text as chats and documents have it: mostly
// words, with personal data and near misses in it.
func Prose(seed uint64, size int) string {
	g := generator{rand.New(rand.NewPCG(seed, 0x9205e))}
	var b strings.Builder
	for b.Len() < size {
		for range 4 + g.IntN(8) {
			b.WriteString(sentences[g.IntN(len(sentences))])
			b.WriteByte(' ')
		}
		b.WriteString(g.fill(templates[g.IntN(len(templates))]).Text)
		b.WriteString("\n\n")
	}
	return b.String()
}

type generator struct{ *rand.Rand }

// fill puts values in a template's slots: {email}.
func (g generator) fill(template string) Sample {
	var s Sample
	var b strings.Builder
	for {
		before, rest, more := strings.Cut(template, "{{")
		b.WriteString(before)
		if !more {
			s.Text = b.String()
			return s
		}
		slot, after, _ := strings.Cut(rest, "}}")
		if v, ok := values[slot]; ok {
			start := b.Len()
			b.WriteString(v.make(g))
			s.Gold = append(s.Gold, pii.Match{Start: start, End: b.Len(), Entity: v.entity})
		} else if miss, ok := misses[slot]; ok {
			b.WriteString(miss(g))
		} else {
			panic(fmt.Sprintf("no slot %q", slot))
		}
		template = after
	}
}

// Score is how one entity was found, by exact spans.
type Score struct{ Gold, Found, Right int }

// Recall is the share of what is there that was found.
func (s Score) Recall() float64 { return share(s.Right, s.Gold) }

// Precision is the share of what was found that is there.
func (s Score) Precision() float64 { return share(s.Right, s.Found) }

func share(part, whole int) float64 {
	if whole == 0 {
		return 1
	}
	return float64(part) / float64(whole)
}

// Evaluate scores find over the samples, by entity. report, if not nil, is told
// each match that is missing (lost) or wrong.
func Evaluate(samples []Sample, find func(string) []pii.Match, report func(text string, m pii.Match, lost bool)) map[pii.Entity]Score {
	scores := map[pii.Entity]Score{}
	for _, sample := range samples {
		got := find(sample.Text)
		for _, m := range sample.Gold {
			score := scores[m.Entity]
			score.Gold++
			if slices.Contains(got, m) {
				score.Right++
			} else if report != nil {
				report(sample.Text, m, true)
			}
			scores[m.Entity] = score
		}
		for _, m := range got {
			score := scores[m.Entity]
			score.Found++
			scores[m.Entity] = score
			if report != nil && !slices.Contains(sample.Gold, m) {
				report(sample.Text, m, false)
			}
		}
	}
	return scores
}

// pick is one of the choices.
func (g generator) pick(choices ...string) string { return choices[g.IntN(len(choices))] }

// digits fills a form: # is a digit, % a digit from 1, N one from 2, anything else
// stands for itself.
func (g generator) digits(form string) string {
	out := []byte(form)
	for i, c := range out {
		switch c {
		case '#':
			out[i] = byte('0' + g.IntN(10))
		case '%':
			out[i] = byte('1' + g.IntN(9))
		case 'N':
			out[i] = byte('2' + g.IntN(8))
		}
	}
	return string(out)
}

// of is n characters of an alphabet.
func (g generator) of(alphabet string, n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = alphabet[g.IntN(len(alphabet))]
	}
	return string(out)
}

// grouped puts sep between groups of the given lengths; the last takes the rest.
func grouped(text, sep string, lengths ...int) string {
	var parts []string
	for _, n := range lengths {
		if len(text) <= n {
			break
		}
		parts = append(parts, text[:n])
		text = text[n:]
	}
	return strings.Join(append(parts, text), sep)
}
