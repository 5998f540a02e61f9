package head

import (
	"context"
	"math"
)

// Bounds on the work of choosing, so that many examples cost about as much an
// example as few.
const (
	maxWork   = 6e10 // multiplications of the linear layers that folds are tried with
	maxJudged = 1500 // held-out examples that weights are fitted on
	maxCells  = 1e6  // of such examples times classes, 72 bytes each
)

// decays are the strengths of regularisation that are tried; the middle one is
// taken when there is nothing to hold out, or too much work.
var decays = []float64{3e-4, 3e-3, 3e-2}

// defaultBatch is how many examples a step looks at.
const defaultBatch = 32

// schedule sets epochs and rate: fewer rounds for more examples.
func (t *training) schedule() {
	n, k := float64(len(t.class)), float64(len(t.head.answers))
	epochs := t.o.Epochs
	if epochs == 0 {
		epochs = int(min(max(6000/n, 12), 60))
		// One epoch costs 2 n k Dimensions, forth and back.
		epochs = int(max(min(float64(epochs), maxWork/(4*n*k*Dimensions)), 1))
	}
	rate := 0.3
	if m := t.o.LearningRateMultiplier; m > 0 {
		rate *= min(m, 8)
	}
	batch := t.o.BatchSize
	if batch <= 0 {
		batch = defaultBatch
	}
	t.report.BatchSize = batch
	t.plan = schedule{epochs: epochs, batch: batch, rate: rate, decay: decays[1], seed: uint64(t.o.Seed)}
	t.report.Epochs, t.report.LearningRate = epochs, rate
}

// choose trains a linear layer without each fold, for each strength of
// regularisation, and returns the best strength's layers; nil when none can be held out.
func (t *training) choose(ctx context.Context) ([]linear, error) {
	held := 0
	for _, f := range t.fold {
		held += btoi(f >= 0)
	}
	if held == 0 || len(t.head.answers) < 2 {
		t.report.Decay = t.plan.decay
		return nil, nil
	}
	work := 4 * float64(t.plan.epochs) * float64(len(t.class)) * float64(len(t.head.answers)) * Dimensions * float64(t.folds)
	tried := decays
	if work*float64(len(decays)) > 2*maxWork {
		tried = decays[1:2]
	}
	folds := t.folds
	if work > 3*maxWork {
		folds = 1 // one part alone is held out; the others count as never
	}
	for i, f := range t.fold {
		if f >= folds {
			t.fold[i] = -1
		}
	}
	var best []linear
	least := math.Inf(1)
	for _, decay := range tried {
		plan := t.plan
		plan.decay = decay
		models := make([]linear, folds)
		loss, n := 0.0, 0
		for f := range folds {
			rows, class := t.without(f)
			l, err := fitLinear(ctx, rows, class, len(t.head.answers), plan, nil)
			if err != nil {
				return nil, err
			}
			models[f] = l
			for i, g := range t.fold {
				if g == f {
					z := l.logits(t.rows[i*Dimensions : (i+1)*Dimensions])
					loss -= math.Log(max(softmaxInPlace(z, int(t.class[i])), 1e-9))
					n++
				}
			}
		}
		if loss /= float64(max(n, 1)); loss < least {
			least, best, t.plan.decay = loss, models, decay
		}
	}
	t.report.Decay = t.plan.decay
	return best, nil
}

// without returns the examples outside a fold.
func (t *training) without(fold int) (rows []float32, class []int32) {
	for i, f := range t.fold {
		if f != fold {
			rows = append(rows, t.rows[i*Dimensions:(i+1)*Dimensions]...)
			class = append(class, t.class[i])
		}
	}
	return rows, class
}

// finish trains the linear layer on all examples.
func (t *training) finish(ctx context.Context, validation []Example) error {
	at := make(map[string]int, len(t.head.answers))
	for k, a := range t.head.answers {
		at[a] = k
	}
	l, err := fitLinear(ctx, t.rows, t.class, len(t.head.answers), t.plan, func(epoch int, l linear, loss, accuracy float64) error {
		p := Progress{Step: epoch, TrainLoss: loss, TrainAccuracy: accuracy, ValidLoss: math.NaN(), ValidAccuracy: math.NaN(),
			Epochs: t.plan.epochs, Examples: len(t.class), Classes: len(t.head.answers), Validated: len(validation)}
		t.report.TrainLoss, t.report.TrainAccuracy = loss, accuracy
		if t.o.Step == nil {
			return nil
		}
		if len(validation) > 0 {
			p.ValidLoss, p.ValidAccuracy = t.head.validate(l, at, validation)
		}
		return t.o.Step(p)
	})
	if err != nil {
		return err
	}
	t.head.linear = l
	return nil
}

// validate is the linear layer's loss and accuracy on examples that it never saw.
// An answer that it doesn't know counts as wrong, at the loss of 1e-9.
func (h *Head) validate(l linear, at map[string]int, examples []Example) (loss, accuracy float64) {
	x := make([]float32, Dimensions)
	for _, e := range examples {
		k, known := at[e.Answer]
		if !known {
			loss -= math.Log(1e-9)
			continue
		}
		for d := range x {
			x[d] = e.Vector[d] - h.mean[d]
		}
		z := l.logits(x)
		p := softmaxInPlace(z, k)
		loss -= math.Log(max(p, 1e-9))
		right := true
		for j := range z {
			right = right && (j == k || z[j] < z[k])
		}
		accuracy += float64(btoi(right))
	}
	n := float64(len(examples))
	return loss / n, accuracy / n
}
