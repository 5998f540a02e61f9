package head

import "math"

// weights say how much each member's opinion counts. Their size is the temperature:
// the sum of the weighted opinions is a logit.
type weights [members]float64

// logit sums up the opinions on one class.
func (w *weights) logit(o *opinions) float64 {
	sum := 0.0
	for j := range o {
		sum += w[j] * o[j]
	}
	return sum
}

// probabilities of the classes; a class that is left out has none.
func (w *weights) probabilities(v verdicts) []float64 {
	z := make([]float64, len(v.each))
	for k := range v.each {
		z[k] = w.logit(&v.each[k])
	}
	if v.gone >= 0 {
		z[v.gone] = math.Inf(-1)
	}
	return softmax(z)
}

// judged is a question with its right class.
type judged struct {
	verdicts
	right  int
	weight float64
}

// fitWeights finds the weights that make the right classes likeliest, held to prior
// with the given spreads: conditional logistic regression by Newton's method. No
// item is worth less than the prior, and few change little.
func fitWeights(items []judged, prior, spread weights) weights {
	w := prior
	best := objective(items, w, prior, spread)
	for range 30 {
		var (
			grad [members]float64
			hess [members][members]float64
		)
		for j := range w {
			grad[j] = (w[j] - prior[j]) / (spread[j] * spread[j])
			hess[j][j] = 1 / (spread[j] * spread[j])
		}
		for _, it := range items {
			p := w.probabilities(it.verdicts)
			var mean opinions
			for k := range p {
				for j := range mean {
					mean[j] += p[k] * it.each[k][j]
				}
			}
			for j := range grad {
				grad[j] += it.weight * (mean[j] - it.each[it.right][j])
			}
			for k := range p {
				if p[k] < 1e-6 {
					continue
				}
				for a := range mean {
					da := it.weight * p[k] * (it.each[k][a] - mean[a]) //nolint:gosec // a ranges over this array
					for b := range a + 1 {
						hess[a][b] += da * (it.each[k][b] - mean[b]) //nolint:gosec // b is at most a
					}
				}
			}
		}
		rows, right := make([][]float64, members), make([]float64, members)
		for a := range members {
			rows[a] = make([]float64, members)
			for b := range members {
				rows[a][b] = hess[max(a, b)][min(a, b)]
			}
			right[a] = grad[a]
		}
		step := solve(rows, right)
		improved := false
		for scale := 1.0; scale > 1e-3; scale /= 2 {
			next := w
			for j := range next {
				next[j] = max(w[j]-scale*step[j], 0) // no member speaks against itself
			}
			if o := objective(items, next, prior, spread); o < best-1e-9 {
				improved = best-o > 1e-6*math.Abs(best)
				w, best = next, o
				break
			}
		}
		if !improved {
			break
		}
	}
	return w
}

func objective(items []judged, w, prior, spread weights) float64 {
	sum := 0.0
	for j := range w {
		d := (w[j] - prior[j]) / spread[j]
		sum += d * d / 2
	}
	for _, it := range items {
		sum -= it.weight * math.Log(max(w.probabilities(it.verdicts)[it.right], 1e-12))
	}
	return sum
}

// solve solves a symmetric positive definite system by Cholesky's method; a
// direction without curvature isn't moved in.
func solve(a [][]float64, b []float64) []float64 {
	n := len(b)
	for i := range n {
		for j := range i + 1 {
			sum := a[i][j]
			for k := range j {
				sum -= a[i][k] * a[j][k]
			}
			if i == j {
				a[i][i] = math.Sqrt(max(sum, 1e-12))
			} else {
				a[i][j] = sum / a[j][j]
			}
		}
	}
	x := make([]float64, n)
	for i := range n {
		x[i] = b[i]
		for k := range i {
			x[i] -= a[i][k] * x[k]
		}
		x[i] /= a[i][i]
	}
	for i := n - 1; i >= 0; i-- {
		for k := i + 1; k < n; k++ {
			x[i] -= a[k][i] * x[k]
		}
		x[i] /= a[i][i]
	}
	return x
}
