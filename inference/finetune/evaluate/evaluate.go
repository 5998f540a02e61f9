package evaluate

import (
	"cmp"
	"math"
	"slices"
)

// Item is one question: the answer that is wanted, and what became of it.
type Item struct {
	Want string // compared as it stands; of no account when OutOfScope
	// Got is the model's best answer, also when it abstained; empty when it has none.
	Got       string
	Abstained bool // it declined to say Got
	// OutOfScope: the model knows nothing of this, and should abstain.
	OutOfScope bool

	// Scored says that the model gives probabilities: Probability is what it gave to
	// Want, Confidence what it gave to Got, between 0 and 1.
	Scored      bool
	Probability float64
	Confidence  float64
}

// Result is what items say of a model. Shares are between 0 and 1.
type Result struct {
	Items int `json:"items"` // in scope
	// Loss is the mean negative natural logarithm of the wanted answer's probability,
	// none counted as less than 1e-9; nil when the model gives no probabilities.
	Loss *float64 `json:"loss"`
	// Accuracy is the share of items whose best answer is the wanted one, said or not.
	Accuracy float64 `json:"accuracy"`
	// Coverage is the share that was answered, AnsweredAccuracy how much of that is
	// right; 0 when nothing was answered.
	Coverage         float64 `json:"coverage"`
	AnsweredAccuracy float64 `json:"answered_accuracy"`
	// Confusion has the pairs that were mixed up most often, at most 10.
	Confusion []Confusion `json:"confusion"`
	// Curve is what declining more or fewer items would give, from all answered to
	// few; empty when the model gives no probabilities.
	Curve []Point `json:"curve"`
	// OutOfScope is nil when no item was.
	OutOfScope *OutOfScope `json:"out_of_scope,omitempty"`
}

// Confusion is how often one answer was given where another was wanted. Both are cut
// to 120 characters; an empty Got is no answer at all.
type Confusion struct {
	Wanted string `json:"wanted"`
	Got    string `json:"got"`
	Count  int    `json:"count"`
}

// Point of an abstention curve: of the items that are answered with at least this
// confidence, how many they are and how many of them are right.
type Point struct {
	Threshold float64 `json:"threshold"`
	Coverage  float64 `json:"coverage"`
	Accuracy  float64 `json:"accuracy"`
}

// OutOfScope is how often the model answered what it should have declined.
type OutOfScope struct {
	Items         int     `json:"items"`
	Answered      int     `json:"answered"`
	AnsweredShare float64 `json:"answered_share"`
}

// Report has a model's results beside those of its base, on the same items. A nil
// one was not measured.
type Report struct {
	Before *Result `json:"before"`
	After  *Result `json:"after"`
	Items  int     `json:"items"`
	Data   string  `json:"data"` // what was asked: the name or the sum of a file, or how it was split
}

const (
	leastProbability = 1e-9
	worstPairs       = 10
	curvePoints      = 20
	shownRunes       = 120
)

// Evaluate sums items up. Their order is of no account. Without items all is zero.
func Evaluate(items []Item) Result {
	r := Result{Confusion: []Confusion{}, Curve: []Point{}}
	var (
		out             OutOfScope
		right, answered int
		answeredRight   int
		loss            float64
		scored          []Item
	)
	type pair struct{ want, got string }
	wrong := map[pair]int{}
	for _, it := range items {
		if it.OutOfScope {
			out.Items++
			if it.said() {
				out.Answered++
			}
			continue
		}
		r.Items++
		if it.right() {
			right++
		} else {
			wrong[pair{it.Want, it.Got}]++
		}
		if it.said() {
			answered++
			if it.right() {
				answeredRight++
			}
		}
		if it.Scored {
			loss -= math.Log(max(clamp(it.Probability), leastProbability))
			scored = append(scored, it)
		}
	}
	r.Accuracy, r.Coverage = share(right, r.Items), share(answered, r.Items)
	r.AnsweredAccuracy = share(answeredRight, answered)
	for p, n := range wrong {
		r.Confusion = append(r.Confusion, Confusion{p.want, p.got, n})
	}
	slices.SortFunc(r.Confusion, func(a, b Confusion) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.Wanted, b.Wanted), cmp.Compare(a.Got, b.Got))
	})
	r.Confusion = slices.Clip(r.Confusion[:min(len(r.Confusion), worstPairs)])
	for i, c := range r.Confusion {
		r.Confusion[i].Wanted, r.Confusion[i].Got = cut(c.Wanted), cut(c.Got)
	}
	// One without a probability has no place on the curve, and no loss: then there is
	// neither, rather than those of some of the items.
	if len(scored) == r.Items && r.Items > 0 {
		mean := loss / float64(r.Items)
		r.Loss = &mean
		r.Curve = curve(scored)
	}
	if out.Items > 0 {
		out.AnsweredShare = share(out.Answered, out.Items)
		r.OutOfScope = &out
	}
	return r
}

func (it Item) right() bool { return it.Got == it.Want && it.Got != "" }

func (it Item) said() bool { return !it.Abstained && it.Got != "" }

// curve has a point for each twentieth of the items, the surest first to go out
// last: thresholds at equal steps would all fall where no confidence lies. Items
// that are equally sure go together.
func curve(items []Item) []Point {
	items = slices.Clone(items)
	slices.SortStableFunc(items, func(a, b Item) int { return cmp.Compare(clamp(b.Confidence), clamp(a.Confidence)) })
	right := make([]int, len(items)+1) // among the first n
	for i, it := range items {
		right[i+1] = right[i]
		if it.right() {
			right[i+1]++
		}
	}
	points := []Point{}
	for step := curvePoints; step >= 1; step-- {
		n := (len(items)*step + curvePoints - 1) / curvePoints
		threshold := clamp(items[n-1].Confidence)
		for n < len(items) && clamp(items[n].Confidence) == threshold {
			n++
		}
		p := Point{threshold, share(n, len(items)), share(right[n], n)}
		if len(points) == 0 || points[len(points)-1] != p {
			points = append(points, p)
		}
	}
	return points
}

// AccuracyAt is the accuracy of the curve's point whose coverage is the least that
// reaches coverage; 0 when there is no curve.
func (r Result) AccuracyAt(coverage float64) float64 {
	for _, p := range slices.Backward(r.Curve) {
		if p.Coverage >= coverage-1e-9 {
			return p.Accuracy
		}
	}
	return 0
}

func share(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// clamp takes what isn't a number for 0: JSON has no way to say it.
func clamp(p float64) float64 {
	if math.IsNaN(p) {
		return 0
	}
	return min(max(p, 0), 1)
}

func cut(text string) string {
	n := 0
	for i := range text {
		if n == shownRunes {
			return text[:i]
		}
		n++
	}
	return text
}
