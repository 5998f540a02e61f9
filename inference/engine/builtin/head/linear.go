package head

import (
	"context"
	"math"
	"math/rand/v2"

	"github.com/viterin/vek/vek32"
)

// linear is a softmax layer over centred vectors: logits = x·w + b.
type linear struct {
	w []float32 // [Dimensions, classes]
	b []float32 // [classes]
}

// logitScale is how much steeper a logit is than its weights: vectors are short and
// classes many, so that plain weights would take long to grow.
const logitScale = 8

// schedule is how a linear layer is trained.
type schedule struct {
	epochs int
	batch  int // examples of a step
	rate   float64
	decay  float64 // L2, of a step
	seed   uint64
}

// fitLinear trains a layer on rows (centred, [n, Dimensions]) with stochastic
// gradient descent with momentum. each, when it isn't nil, is told of every epoch.
func fitLinear(ctx context.Context, rows []float32, class []int32, classes int, s schedule, each func(epoch int, l linear, loss, accuracy float64) error) (linear, error) {
	n, batch := len(class), s.batch
	l := linear{w: make([]float32, Dimensions*classes), b: make([]float32, classes)}
	var (
		order   = make([]int, n)
		random  = rand.New(rand.NewPCG(s.seed, 7)) //nolint:gosec // for order alone
		speedW  = make([]float32, len(l.w))
		speedB  = make([]float32, classes)
		x       = make([]float32, batch*Dimensions)
		xt      = make([]float32, batch*Dimensions)
		z       = make([]float32, batch*classes)
		gradW   = make([]float32, len(l.w))
		gradB   = make([]float32, classes)
		scratch = make([]float32, len(l.w))
	)
	for i := range order {
		order[i] = i
	}
	for epoch := range s.epochs {
		if ctx.Err() != nil {
			return linear{}, context.Cause(ctx)
		}
		random.Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
		rate := float32(s.rate * (1 - float64(epoch)/float64(s.epochs)))
		loss, right := 0.0, 0
		for from := 0; from < n; from += batch {
			items := order[from:min(from+batch, n)]
			m := len(items)
			for r, i := range items {
				row := rows[i*Dimensions : (i+1)*Dimensions]
				copy(x[r*Dimensions:], row)
				for d, f := range row {
					xt[d*m+r] = f
				}
			}
			g := multiply(z[:m*classes], x[:m*Dimensions], l.w, Dimensions)
			clear(gradB)
			for r, i := range items {
				row := g[r*classes : (r+1)*classes]
				vek32.Add_Inplace(row, l.b)
				vek32.MulNumber_Inplace(row, logitScale)
				y := int(class[i])
				if vek32.ArgMax(row) == y {
					right++
				}
				loss -= math.Log(max(softmaxInPlace(row, y), 1e-9))
				row[y]--
				vek32.MulNumber_Inplace(row, logitScale/float32(m))
				vek32.Add_Inplace(gradB, row)
			}
			multiply(gradW, xt[:m*Dimensions], g, m)
			momentum(speedW, l.w, gradW, scratch, rate/logitScale, float32(s.decay))
			momentum(speedB, l.b, gradB, scratch[:classes], rate/logitScale/8, float32(s.decay))
		}
		if each != nil {
			if err := each(epoch+1, l, loss/float64(n), float64(right)/float64(n)); err != nil {
				return linear{}, err
			}
		}
	}
	return l, nil
}

// momentum is one step: speed = 0.8 speed − rate (grad + decay w); w += speed.
func momentum(speed, w, grad, scratch []float32, rate, decay float32) {
	vek32.MulNumber_Inplace(speed, 0.8)
	vek32.MulNumber_Into(scratch, w, decay)
	vek32.Add_Inplace(grad, scratch)
	vek32.MulNumber_Inplace(grad, rate)
	vek32.Sub_Inplace(speed, grad)
	vek32.Add_Inplace(w, speed)
}

// logits of one centred vector.
func (l linear) logits(x []float32) []float32 {
	z := multiply(make([]float32, len(l.b)), x, l.w, Dimensions)
	vek32.Add_Inplace(z, l.b)
	vek32.MulNumber_Inplace(z, logitScale)
	return z
}

// softmaxInPlace makes probabilities of a row's logits and returns the one at y.
func softmaxInPlace(row []float32, y int) float64 {
	most := vek32.Max(row)
	sum := 0.0
	for k, f := range row {
		e := math.Exp(float64(f - most))
		sum += e
		row[k] = float32(e)
	}
	vek32.MulNumber_Inplace(row, float32(1/sum))
	return float64(row[y])
}

// multiply computes dst = x·w, where x has rows of width in.
func multiply(dst, x, w []float32, in int) []float32 {
	// Three rows at a time: from four on vek starts a goroutine for each processor of
	// the machine, also those that this process was not given.
	const rows = 3
	n, out := len(x)/in, len(w)/in
	for r := 0; r < n; r += rows {
		end := min(r+rows, n)
		vek32.MatMul_Into(dst[r*out:end*out], x[r*in:end*in], w, in)
	}
	return dst
}
