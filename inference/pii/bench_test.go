package pii_test

import (
	"encoding/json"
	"strings"
	"testing"

	"freehold/inference/pii"
	"freehold/inference/pii/piitest"
)

func isJSON(raw []byte) bool { return json.Valid(raw) }

const chunk = " and so the next word"

// TestNothingCostsNothing: text without anything to find is not copied.
func TestNothingCostsNothing(t *testing.T) {
	s, _ := placeholders(t)
	scanner := pii.New(pii.Options{})
	plain, arguments := s.Stream(), s.StreamJSON()
	text := strings.Repeat("Nothing to find in order 12 of 2024-01-15, nor here. ", 20)
	for name, do := range map[string]func(){
		"Tag":        func() { _ = scanner.Tag(text) },
		"Write":      func() { _ = plain.Write(chunk) },
		"Write JSON": func() { _ = arguments.Write(chunk) },
		"Restore":    func() { _ = s.Restore(text) },
	} {
		if n := testing.AllocsPerRun(100, do); n >= 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkFindProse(b *testing.B) {
	text := piitest.Prose(1, 1<<20)
	benchmarkFind(b, text)
}

func BenchmarkFindCorpus(b *testing.B) {
	var all strings.Builder
	for _, s := range piitest.Corpus(1, 10000) {
		all.WriteString(s.Text)
		all.WriteByte('\n')
	}
	benchmarkFind(b, all.String())
}

func BenchmarkFindPhones(b *testing.B) {
	benchmarkFind(b, strings.Repeat("020 7946 0958, ", 1000))
}

func benchmarkFind(b *testing.B, text string) {
	s := pii.New(pii.Options{})
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		s.Find(text)
	}
}

func BenchmarkWrite(b *testing.B) {
	s, live := placeholders(b)
	r := s.Stream()
	pieces := []string{chunk, " to " + live[0][:9], live[0][9:], "."}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Write(pieces[i%len(pieces)])
	}
}
