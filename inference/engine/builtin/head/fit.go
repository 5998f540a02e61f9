package head

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Example is a prompt with the answer that is wanted.
type Example struct {
	Text   string    // the last user message, as Normalize returns it
	Vector []float32 // of Text
	Answer string
}

// Options say how to train. Zero is the default everywhere.
type Options struct {
	Seed                   int64
	Epochs                 int     // 0: by the number of examples
	BatchSize              int     // 0: 32
	LearningRateMultiplier float64 // 0: 1
	// Answers are vectors of the answers' texts, by answer; what isn't there isn't used.
	Answers map[string][]float32
	// Step is told of every epoch. Its error ends Fit and is returned.
	Step func(Progress) error
}

// Progress is how far Fit has come with the final training. What there is no
// validation for is NaN.
type Progress struct {
	Step                         int
	TrainLoss, TrainAccuracy     float64
	ValidLoss, ValidAccuracy     float64
	Epochs                       int // of all
	Examples, Classes, Validated int
}

// Errors of Fit.
var (
	// ErrNoExamples is returned when there is nothing to learn from.
	ErrNoExamples = errors.New("no examples")
	// ErrTooManyClasses is returned beyond MaxClasses different answers.
	ErrTooManyClasses = fmt.Errorf("more than %d different answers", MaxClasses)
	// ErrVector is returned for a vector that hasn't the right length.
	ErrVector = errors.New("an example's vector hasn't the encoder's length")
)

// training is the state of one Fit.
type training struct {
	o      Options
	head   *Head
	class  []int32   // of each example
	rows   []float32 // centred, [n, Dimensions]
	fold   []int     // of each example; -1: never held out
	folds  int
	kept   []int // examples in memory, by their place there
	plan   schedule
	report Report
}

// Fit trains a head. The linear part's strength, the members' weights and the
// threshold are chosen by how examples are judged that were held out; then
// everything is trained once more on all. validation chooses nothing: it is for
// Progress alone. Equal arguments make equal heads.
func Fit(ctx context.Context, examples, validation []Example, o Options) (*Head, Report, error) {
	examples, err := distinct(examples)
	if err != nil {
		return nil, Report{}, err
	}
	t := &training{o: o, head: &Head{}}
	t.classes(examples)
	if len(t.head.answers) > MaxClasses {
		return nil, Report{}, ErrTooManyClasses
	}
	t.centre(examples)
	t.split()
	t.remember(examples)
	t.schedule()
	models, err := t.choose(ctx)
	if err != nil {
		return nil, Report{}, err
	}
	t.weigh(examples, models)
	if err := t.finish(ctx, validation); err != nil {
		return nil, Report{}, err
	}
	return t.head, t.report, nil
}

// distinct drops what is there twice, prompt and answer, and checks the rest.
func distinct(examples []Example) ([]Example, error) {
	type pair struct{ text, answer string }
	seen := map[pair]bool{}
	var out []Example
	for _, e := range examples {
		if len(e.Vector) != Dimensions {
			return nil, ErrVector
		}
		for _, f := range e.Vector {
			if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
				return nil, ErrVector
			}
		}
		if p := (pair{e.Text, e.Answer}); !seen[p] {
			seen[p] = true
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		return nil, ErrNoExamples
	}
	return out, nil
}

func (t *training) classes(examples []Example) {
	at := map[string]int32{}
	for _, e := range examples {
		k, known := at[e.Answer]
		if !known {
			k = int32(len(t.head.answers))
			at[e.Answer] = k
			t.head.answers = append(t.head.answers, e.Answer)
		}
		t.class = append(t.class, k)
	}
	h := t.head
	h.labels = labelsOf(h.answers)
	if t.o.Answers != nil {
		h.answerV = make([][]float32, len(h.answers))
		for k, a := range h.answers {
			if v := t.o.Answers[a]; len(v) == Dimensions {
				h.answerV[k] = v
			}
		}
	}
}

// centre takes the mean vector off: what all of the tenant's questions have in
// common tells none of them apart.
func (t *training) centre(examples []Example) {
	n := len(examples)
	t.head.mean = make([]float32, Dimensions)
	for d := range Dimensions {
		sum := 0.0
		for _, e := range examples {
			sum += float64(e.Vector[d])
		}
		t.head.mean[d] = float32(sum / float64(n) * centring)
	}
	t.head.foreign = newForeigners(t.head.mean)
	t.rows = make([]float32, n*Dimensions)
	for i, e := range examples {
		for d, f := range e.Vector {
			t.rows[i*Dimensions+d] = f - t.head.mean[d]
		}
	}
}

// centring is how much of the mean is taken off.
const centring = 1.0

// maxFolds is in how many parts examples are split to hold each out once.
const maxFolds = 5

// split deals each class's examples out over the folds; a class's only example is
// never held out.
func (t *training) split() {
	sizes := make([]int, len(t.head.answers))
	for _, k := range t.class {
		sizes[k]++
	}
	t.folds = min(max(slices.Max(sizes), 2), maxFolds)
	t.fold = make([]int, len(t.class))
	random := rand.New(rand.NewPCG(uint64(t.o.Seed), 1)) //nolint:gosec // any number is a seed
	next := make([]int, len(sizes))
	for k := range next {
		next[k] = random.IntN(t.folds)
	}
	for _, i := range random.Perm(len(t.class)) {
		k := t.class[i]
		t.fold[i] = -1
		if sizes[k] > 1 {
			t.fold[i] = next[k] % t.folds
			next[k]++
		}
		t.report.Singles += btoi(sizes[k] == 1)
	}
	t.report.Examples, t.report.Classes, t.report.Folds = len(t.class), len(sizes), t.folds
}

// remember chooses the examples that questions are compared with: all, or of many
// as many of each class as there is room for.
func (t *training) remember(examples []Example) {
	n := len(examples)
	random := rand.New(rand.NewPCG(uint64(t.o.Seed), 2)) //nolint:gosec // any number is a seed
	turn := make([]int, n)
	counts := make([]int, len(t.head.answers))
	for _, i := range random.Perm(n) {
		turn[i] = counts[t.class[i]]
		counts[t.class[i]]++
	}
	t.kept = make([]int, n)
	for i := range t.kept {
		t.kept[i] = i
	}
	if n > maxKept {
		slices.SortStableFunc(t.kept, func(a, b int) int { return turn[a] - turn[b] })
		t.kept = t.kept[:maxKept]
		slices.Sort(t.kept)
	}
	texts := make([]string, len(t.kept))
	class := make([]int32, len(t.kept))
	vectors := make([]float32, len(t.kept)*Dimensions)
	for j, i := range t.kept {
		texts[j], class[j] = examples[i].Text, t.class[i]
		unit(vectors[j*Dimensions:(j+1)*Dimensions], t.rows[i*Dimensions:(i+1)*Dimensions])
	}
	t.head.memory = newMemory(texts, class, vectors, t.head.answers, t.head.centredAnswers())
}

// centredAnswers takes the answers' own mean off them.
func (h *Head) centredAnswers() [][]float32 {
	if h.answerV == nil {
		return nil
	}
	mean := make([]float64, Dimensions)
	n := 0.0
	for _, v := range h.answerV {
		if v == nil {
			continue
		}
		n++
		for d, f := range v {
			mean[d] += float64(f)
		}
	}
	out := make([][]float32, len(h.answerV))
	for k, v := range h.answerV {
		if v == nil {
			continue
		}
		out[k] = make([]float32, Dimensions)
		for d, f := range v {
			out[k][d] = f
			if n > 1 {
				out[k][d] -= float32(mean[d] / n)
			}
		}
	}
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
