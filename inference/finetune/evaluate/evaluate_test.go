package evaluate_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"freehold/inference/finetune/evaluate"
)

// said is an item of a model that gives probabilities.
func said(want, got string, probability, confidence float64) evaluate.Item {
	return evaluate.Item{Want: want, Got: got, Scored: true, Probability: probability, Confidence: confidence}
}

func declined(it evaluate.Item) evaluate.Item {
	it.Abstained = true
	return it
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestEvaluate(t *testing.T) {
	t.Parallel()
	items := []evaluate.Item{
		said("a", "a", 0.5, 0.5),
		said("a", "b", 0.25, 0.75),
		declined(said("b", "b", 0.4, 0.4)), // right, had it been said
		declined(said("b", "a", 0, 0.3)),
		{OutOfScope: true, Got: "a", Scored: true, Confidence: 0.9},
		{OutOfScope: true, Got: "a", Scored: true, Confidence: 0.1, Abstained: true},
		{OutOfScope: true},
	}
	r := evaluate.Evaluate(items)
	loss := -(math.Log(0.5) + math.Log(0.25) + math.Log(0.4) + math.Log(1e-9)) / 4
	if r.Items != 4 || r.Loss == nil || !near(*r.Loss, loss) || r.Accuracy != 0.5 || r.Coverage != 0.5 || r.AnsweredAccuracy != 0.5 {
		t.Errorf("%+v", r)
	}
	if fmt.Sprint(r.Confusion) != "[{a b 1} {b a 1}]" {
		t.Error(r.Confusion)
	}
	if fmt.Sprint(r.Curve) != "[{0.3 1 0.5} {0.4 0.75 0.6666666666666666} {0.5 0.5 0.5} {0.75 0.25 0}]" {
		t.Error(r.Curve)
	}
	if o := r.OutOfScope; o == nil || o.Items != 3 || o.Answered != 1 || !near(o.AnsweredShare, 1.0/3) {
		t.Errorf("%+v", o)
	}
	if got := r.AccuracyAt(0.8); got != 0.5 {
		t.Error(got)
	}
	if got := r.AccuracyAt(0.75); !near(got, 2.0/3) {
		t.Error(got)
	}
}

func TestWithoutScores(t *testing.T) {
	t.Parallel()
	r := evaluate.Evaluate([]evaluate.Item{{Want: "a", Got: "a"}, {Want: "a"}, said("a", "a", 1, 1)})
	if r.Loss != nil || len(r.Curve) != 0 || !near(r.Accuracy, 2.0/3) || !near(r.Coverage, 2.0/3) || r.AnsweredAccuracy != 1 || r.OutOfScope != nil {
		t.Errorf("%+v", r)
	}
	b, err := json.Marshal(evaluate.Evaluate(nil))
	if err != nil || string(b) != `{"items":0,"loss":null,"accuracy":0,"coverage":0,"answered_accuracy":0,"confusion":[],"curve":[]}` {
		t.Error(string(b), err)
	}
	b, err = json.Marshal(evaluate.Evaluate([]evaluate.Item{said("a", "b", math.NaN(), math.Inf(1)), said("a", "b", math.Inf(-1), math.NaN())}))
	if err != nil || strings.Contains(string(b), "NaN") {
		t.Error(string(b), err)
	}
}

func TestConfusion(t *testing.T) {
	t.Parallel()
	var items []evaluate.Item
	for i := range 15 {
		for range 20 - i {
			items = append(items, evaluate.Item{Want: fmt.Sprint("w", i), Got: strings.Repeat("é", 200)})
		}
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	c := evaluate.Evaluate(items).Confusion
	if len(c) != 10 || c[0] != (evaluate.Confusion{Wanted: "w0", Got: strings.Repeat("é", 120), Count: 20}) || c[9].Count != 11 {
		t.Errorf("%d %+v", len(c), c)
	}
}

// TestProperties: shares are shares, order is of no account, and the curve goes from
// all items to fewer, with thresholds that rise.
func TestProperties(t *testing.T) {
	t.Parallel()
	answer := rapid.SampledFrom([]string{"a", "b", "c"})
	item := rapid.Custom(func(t *rapid.T) evaluate.Item {
		return evaluate.Item{
			Want: answer.Draw(t, "want"), Got: answer.Draw(t, "got"), Abstained: rapid.Bool().Draw(t, "abstained"), Scored: true,
			Probability: rapid.Float64Range(0, 1).Draw(t, "p"), Confidence: rapid.SampledFrom([]float64{0, 0.2, 0.5, 0.9, 1}).Draw(t, "c"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(item, 1, 100).Draw(t, "items")
		r := evaluate.Evaluate(items)
		slices.Reverse(items)
		turned := evaluate.Evaluate(items)
		*turned.Loss, *r.Loss = math.Round(*turned.Loss*1e6), math.Round(*r.Loss*1e6) // sums differ in their last digits
		a, _ := json.Marshal(r)
		if b, _ := json.Marshal(turned); string(a) != string(b) {
			t.Fatalf("%s\n%s", a, b)
		}
		first := r.Curve[0]
		if first.Coverage != 1 || !near(first.Accuracy, r.Accuracy) || len(r.Curve) > 20 {
			t.Fatalf("%+v", r)
		}
		for i, p := range r.Curve[1:] {
			if before := r.Curve[i]; p.Threshold <= before.Threshold || p.Coverage >= before.Coverage || p.Coverage <= 0 || p.Accuracy < 0 || p.Accuracy > 1 {
				t.Fatalf("%+v", r.Curve)
			}
		}
	})
}

func TestTable(t *testing.T) {
	t.Parallel()
	before := evaluate.Evaluate([]evaluate.Item{{Want: "a"}, {Want: "b", Got: "x"}})
	after := evaluate.Evaluate([]evaluate.Item{said("a", "a", 0.9, 0.9), declined(said("b\x1b[2J\nline", "a", 0.2, 0.6)), {OutOfScope: true}})
	var b strings.Builder
	if err := (evaluate.Report{Before: &before, After: &after, Items: 2}).WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	want := `2 ITEMS                              BEFORE  AFTER
loss                                 -       0.857
right, if all were answered          0.0 %   50.0 %
answered                             50.0 %  50.0 %
right, of those answered             0.0 %   100.0 %
out of scope, answered all the same  -       0 of 1

CONFIDENCE AT LEAST  ANSWERED  RIGHT
0.600                100.0 %   50.0 %
0.900                50.0 %    100.0 %

WANTED      GOT  TIMES
b [2J line  a    1
`
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
	b.Reset()
	if err := (evaluate.Report{}).WriteTable(&b); err != nil || !strings.HasPrefix(b.String(), "0 ITEMS") {
		t.Error(b.String(), err)
	}
}
