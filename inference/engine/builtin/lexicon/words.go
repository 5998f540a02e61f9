// Package lexicon is what the built-in engine knows of English words: which carry
// no topic, what their stems are, and which mean nearly the same. It knows neither
// models nor conversations.
package lexicon

import (
	"strings"
	"unicode"
)

// stopWords carry no topic. Question words are among them: matching
// what they ask for (a time, a price, a person) was tried and gained nothing.
var stopWords = wordSet(`a about above after again all also am an and any anybody anyone anything are as at be because
been before being but by can could did do does doing don else etc every few for from get gets give given go going
got had has have having he hello her here hers hey hi him his how i if in into is it its just know let like
may maybe me might mine more most much must my need no nor not now of off ok on once one only onto or other our ours
out over own please same say shall she should so some someone something such tell than thank thanks that the their
theirs them then there these they thing things this those through to too under until up upon us use very want was
way we were what when where which while who whom whose why will with within without would yes yet you your yours
s t re ve ll d m`)

func wordSet(list string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(list) {
		set[w] = true
	}
	return set
}

// Terms returns the stems of a text's words that carry meaning, each once, in order.
func Terms(text string) []string {
	var out []string
	seen := map[string]bool{}
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		if stopWords[word] {
			continue
		}
		if s := Stem(word); !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// Stem takes an English word's commonest endings off, so that "deliveries",
// "delivered" and "delivery" meet. It errs on the side of cutting less.
func Stem(w string) string {
	vowelBefore := func(n int) bool { return strings.ContainsAny(w[:len(w)-n], "aeiouy") }
	cutting := func(suffix string, least int) bool {
		return strings.HasSuffix(w, suffix) && len(w)-len(suffix) >= least && vowelBefore(len(suffix))
	}
	switch {
	case cutting("sses", 2), cutting("shes", 2), cutting("ches", 2), cutting("xes", 2):
		w = w[:len(w)-2]
	case cutting("ies", 2):
		w = w[:len(w)-3] + "y"
	case strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss") && !strings.HasSuffix(w, "us") && !strings.HasSuffix(w, "is") && len(w) > 3:
		w = w[:len(w)-1]
	}
	for _, suffix := range []string{"ation", "ment", "ing", "ery", "ed", "er", "ly", "al", "or", "y", "e"} {
		if cutting(suffix, 3) {
			w = w[:len(w)-len(suffix)]
			break
		}
	}
	if n := len(w); n > 3 && w[n-1] == w[n-2] && !strings.ContainsRune("aeiouls", rune(w[n-1])) {
		w = w[:n-1] // shipping, shipp, ship
	}
	return w
}

// Kinship is how surely two stems mean the same: 1 equal, 0 not related, between
// them for a long common beginning or one group of synonyms.
func Kinship(a, b string) float64 {
	if a == b {
		return 1
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if n >= 5 && len(a)-n <= 3 && len(b)-n <= 3 {
		return 0.7
	}
	if g := groupOf[a]; g != 0 && g == groupOf[b] {
		return 0.7
	}
	return 0
}
