package lexicon_test

import (
	"slices"
	"strings"
	"testing"

	"freehold/inference/engine/builtin/lexicon"
)

func TestTerms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"Where are you?":                      nil,
		"The deliveries of my new deliveries": {"deliv", "new"},
		"Refunded, e-mailed":                  {"refund", "e", "mail"},
	} {
		if got := lexicon.Terms(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestKinship(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want float64
	}{
		{"refund", "refund", 1}, {"price", "cost", 0.7}, {"subscription", "subscriptions", 0.7}, {"bike", "bird", 0},
	} {
		if got := lexicon.Kinship(lexicon.Stem(c.a), lexicon.Stem(c.b)); got != c.want && !(c.want == 0.7 && got == 1) {
			t.Errorf("%s, %s: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestCircles(t *testing.T) {
	t.Parallel()
	meet := func(a, b string) bool {
		return slices.ContainsFunc(lexicon.Circles(lexicon.Stem(a)), func(n int32) bool {
			return slices.Contains(lexicon.Circles(lexicon.Stem(b)), n)
		})
	}
	for _, pair := range [][2]string{{"pram", "stroller"}, {"nicked", "stolen"}, {"infant", "baby"}} {
		if !meet(pair[0], pair[1]) {
			t.Errorf("%s and %s share no circle", pair[0], pair[1])
		}
	}
	if meet("pram", "mortgage") || lexicon.Circles("xyzzy") != nil {
		t.Error("strangers share a circle")
	}
	if n := lexicon.Circles("dog"); !slices.IsSorted(n) {
		t.Errorf("not ascending: %v", n)
	}
}

func TestPhrases(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"can i have my money back": {"mone_back"},
		"i want to give it back":   {"giv_back"},
		"money comes back":         nil,
		"i":                        nil,
	} {
		if got := lexicon.Phrases(strings.Fields(text)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if !slices.ContainsFunc(lexicon.Circles("giv_back"), func(n int32) bool { return slices.Contains(lexicon.Circles("refund"), n) }) {
		t.Error("giving back and refunds share no circle")
	}
}

func TestTypo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"refudn", "refund", true}, {"delivry", "delivery", true}, {"compny", "company", true}, {"luggagge", "luggage", true},
		{"passpart", "passport", true}, {"refund", "refund", false}, {"bike", "bile", false}, {"house", "mouse", false},
		{"hotel", "motel", false}, {"cancel", "counsel", false}, {"", "", false}, {"é", "éa", false},
	} {
		if lexicon.Typo(c.a, c.b) != c.want || lexicon.Typo(c.b, c.a) != c.want {
			t.Errorf("%s, %s: want %v", c.a, c.b, c.want)
		}
	}
}
