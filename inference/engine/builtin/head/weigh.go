package head

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/viterin/vek/vek32"
)

// What weights and gates are before a tenant's data has a say, and how far that may
// go: fitted on questions of several trades (e2e/bench/corpora, those marked dev).
var (
	priorWeights = weights{byLinear: 1.3, byNearest: 0.1, byCentre: 0.1, byWords: 4.3, byLetters: 0.1, byBag: 0.05, bySaid: 2, byAnswer: 1.8, byTopic: 2.75}
	weightSpread = weights{byLinear: 0.5, byNearest: 1, byCentre: 1, byWords: 1, byLetters: 1, byBag: 0.3, bySaid: 1, byAnswer: 0.5, byTopic: 1}

	priorGate  = gate{offset: -0.66, sureness: 1.75, lead: 0.55, strength: 0.1, nearness: 0.56, likeness: 1.12, foreign: -6}
	gateSpread = gate{offset: 0.5, sureness: 0.5, lead: 0.2, strength: 0.1, nearness: 0.5, likeness: 0.5, spelling: 0.5, familiarity: 0.5, agreement: 0.5, foreign: 1, home: 0.5}
)

// Where a head abstains. The least is what kept questions without an answer below
// 0.15 on the corpora that the priors were fitted on; held-out examples alone would
// choose lower, being likelier to resemble each other than customers' questions are.
const (
	leastThreshold = 0.38
	mostThreshold  = 0.42 // unless cross-validation finds strangers that are surer
)

// Held is how a held-out example was judged by a head that hadn't seen it.
type Held struct {
	Text       string
	Want, Got  string
	Probable   float64 // the probability of Want
	Confidence float64
	Abstained  bool
}

// Report says what Fit has chosen, and why.
type Report struct {
	Examples int `json:"examples"` // different ones
	Classes  int `json:"classes"`
	Singles  int `json:"answers_with_one_example"`

	Epochs       int     `json:"n_epochs"`
	BatchSize    int     `json:"batch_size"`
	LearningRate float64 `json:"learning_rate"`
	Decay        float64 `json:"l2"`
	Folds        int     `json:"folds"`

	TrainLoss     float64 `json:"train_loss"`
	TrainAccuracy float64 `json:"train_accuracy"`
	// What follows is of held-out examples, and of nothing when HeldOut is 0.
	HeldOut   int     `json:"held_out"`
	Loss      float64 `json:"held_out_loss"`
	Accuracy  float64 `json:"held_out_accuracy"`
	Coverage  float64 `json:"held_out_coverage"`
	Precision float64 `json:"held_out_accuracy_of_answered"`
	// Foreign is the share of questions without an answer that would be answered.
	Foreign   float64 `json:"out_of_scope_answered"`
	Threshold float64 `json:"threshold"`
	Chosen    string  `json:"threshold_chosen_by"`

	Weights map[string]float64 `json:"weights"`

	Held []Held `json:"-"`
}

// weigh fits the members' weights, the gate and the threshold on held-out examples.
func (t *training) weigh(examples []Example, models []linear) {
	h := t.head
	items, at := t.judge(examples, models)
	h.stack = priorWeights
	if len(items) > 0 {
		h.stack = fitWeights(items, priorWeights, weightSpread)
	}
	var (
		decisions []decided
		own, far  []float64 // confidences of what should and what shouldn't be answered
	)
	for _, it := range items {
		p := h.stack.probabilities(it.verdicts)
		decisions = append(decisions, decided{h.stack.evidence(it.verdicts, p), argmax(p) == it.right, it.weight})
	}
	if len(items) > 0 {
		t.strangers(examples, models, at, func(v verdicts) {
			decisions = append(decisions, decided{h.stack.evidence(v, h.stack.probabilities(v)), false, 1})
		})
	}
	h.accept = priorGate
	if len(items) > 0 {
		balance(decisions, len(items))
		h.accept = fitGate(decisions, priorGate, gateSpread)
	}
	for j, it := range items {
		p := h.stack.probabilities(it.verdicts)
		best := argmax(p)
		c := h.accept.confidence(decisions[j].evidence)
		own = append(own, c)
		t.report.Held = append(t.report.Held, Held{Text: examples[at[j]].Text, Want: h.answers[it.right], Got: h.answers[best],
			Probable: p[it.right], Confidence: c})
	}
	for _, d := range decisions[len(items):] {
		far = append(far, h.accept.confidence(d.evidence))
	}
	t.threshold(own, far)
	t.sum()
}

// judge asks for each held-out example in memory what the others say to it.
func (t *training) judge(examples []Example, models []linear) (items []judged, at []int) {
	if models == nil {
		return nil, nil
	}
	h := t.head
	most := int(max(min(maxJudged, maxCells/float64(len(h.answers))), 50))
	random := rand.New(rand.NewPCG(uint64(t.o.Seed), 3)) //nolint:gosec // any number is a seed
	chosen := random.Perm(len(t.kept))
	n := 0
	for _, j := range chosen {
		if t.fold[t.kept[j]] >= 0 && n < most {
			chosen[n] = j
			n++
		}
	}
	chosen = chosen[:n]
	slices.Sort(chosen)
	for _, j := range chosen {
		i := t.kept[j]
		q := t.own(examples, i)
		v := h.memory.members(q, models[t.fold[i]], without{j, -1})
		items = append(items, judged{v, int(t.class[i]), 1})
		at = append(at, i)
	}
	return items, at
}

// own is an example as a question.
func (t *training) own(examples []Example, i int) question {
	x := t.rows[i*Dimensions : (i+1)*Dimensions]
	q := t.head.memory.question(examples[i].Text, x)
	q.foreign, q.home = t.head.foreign.judge(x, t.head.mean, -1)
	return q
}

// strangers visits what is said to questions without an answer: examples whose whole
// class is left out, which are near, and the general ones, which are far.
func (t *training) strangers(examples []Example, models []linear, at []int, visit func(verdicts)) {
	h := t.head
	if len(h.answers) > 2 {
		for _, i := range at[:min(len(at), maxJudged/2)] {
			visit(h.memory.members(t.own(examples, i), models[t.fold[i]], without{-1, int(t.class[i])}))
		}
	}
	for j, text := range Strangers() {
		x := StrangerVector(j)
		vek32.Sub_Inplace(x, h.mean)
		q := h.memory.question(text, x)
		q.foreign, q.home = h.foreign.judge(x, h.mean, j)
		visit(h.memory.members(q, models[j%len(models)], everything))
	}
}

// balance makes strangers together weigh as much as the examples.
func balance(all []decided, own int) {
	if far := len(all) - own; far > 0 {
		for j := own; j < len(all); j++ {
			all[j].weight = float64(own) / float64(far)
		}
	}
}

// threshold is chosen so that few strangers are answered and most examples are.
func (t *training) threshold(own, far []float64) {
	h := t.head
	h.threshold, t.report.Chosen = leastThreshold, "default"
	if len(own) == 0 {
		return
	}
	t.report.Chosen = "cross-validation"
	slices.Sort(own)
	slices.Sort(far)
	h.threshold = max(leastThreshold, min(max(mostThreshold, at(far, 0.9)), at(own, 0.2)))
	for i := range t.report.Held {
		t.report.Held[i].Abstained = t.report.Held[i].Confidence < h.threshold
	}
	answered := 0
	for _, c := range far {
		answered += btoi(c >= h.threshold)
	}
	t.report.Foreign = float64(answered) / float64(max(len(far), 1))
}

// at is the value at a share of sorted ones.
func at(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// sum adds up what held-out examples came to.
func (t *training) sum() {
	r := &t.report
	r.Threshold = t.head.threshold
	r.Weights = map[string]float64{}
	for j, name := range [members]string{"linear", "nearest", "centre", "words", "letters", "bag", "said", "answer", "topic"} {
		r.Weights[name] = t.head.stack[j]
	}
	right, answered, rightAnswered := 0, 0, 0
	for _, held := range r.Held {
		r.Loss -= math.Log(max(held.Probable, 1e-9))
		good := held.Want == held.Got
		right += btoi(good)
		if !held.Abstained {
			answered++
			rightAnswered += btoi(good)
		}
	}
	if r.HeldOut = len(r.Held); r.HeldOut > 0 {
		n := float64(r.HeldOut)
		r.Loss /= n
		r.Accuracy, r.Coverage = float64(right)/n, float64(answered)/n
		r.Precision = float64(rightAnswered) / float64(max(answered, 1))
	}
}
