package head

import "math"

// What a gate goes by when it decides whether to answer.
const (
	offset      = iota // 1
	sureness           // the best class's probability
	lead               // its logarithm less the second's, at most 4
	strength           // its summed-up opinions, before they are compared
	nearness           // cosine of its nearest example
	likeness           // words shared with its best example
	spelling           // letters shared with its best example
	familiarity        // how much of the question's words is known
	agreement          // the share of the members that would choose it
	foreign            // cosine of the nearest question that belongs to nobody
	home               // how much it is like all examples together, and unlike those
	evidences          // how many
)

// evidence is all of it for one question.
type evidence [evidences]float64

// gate says how likely it is that the best class answers the question: a logistic
// function of the evidence.
type gate [evidences]float64

func (g *gate) confidence(e evidence) float64 {
	sum := 0.0
	for j := range e {
		sum += g[j] * e[j]
	}
	return 1 / (1 + math.Exp(-sum))
}

// voters are the members whose choices are counted.
var voters = [...]int{byLinear, byNearest, byCentre, byWords, byLetters, byBag, byAnswer}

// evidence for the best class of p.
func (w *weights) evidence(v verdicts, p []float64) evidence {
	best := argmax(p)
	second := 0.0
	for k := range p {
		if k != best {
			second = max(second, p[k])
		}
	}
	o := &v.each[best]
	e := evidence{
		offset: 1, sureness: p[best], lead: min(math.Log(max(p[best], 1e-9)/max(second, 1e-9)), 4),
		foreign: v.foreign, home: v.home,
		nearness: o[byNearest], likeness: o[byWords], spelling: o[byLetters], familiarity: v.known,
	}
	without := *o
	without[byLinear], without[byBag] = 0, 0 // these two say only how classes compare
	e[strength] = w.logit(&without)
	for _, j := range voters {
		most := true
		for k := range v.each {
			if k != v.gone && v.each[k][j] > o[j] {
				most = false
				break
			}
		}
		if most {
			e[agreement] += 1.0 / float64(len(voters))
		}
	}
	return e
}

// decided is evidence, and whether answering was right.
type decided struct {
	evidence
	right  bool
	weight float64
}

// signs say which way evidence may speak, 0 either way: what is plausible but rare
// in the data at hand must not be turned round by it.
var signs = gate{sureness: 1, lead: 1, strength: 1, nearness: 1, likeness: 1, spelling: 1, familiarity: 1, agreement: 1, foreign: -1, home: 1}

// fitGate is logistic regression held to prior with the given spreads, and to signs.
func fitGate(items []decided, prior, spread gate) gate {
	g := prior
	for range 50 {
		grad := make([]float64, evidences)
		hess := make([][]float64, evidences)
		for j := range g {
			grad[j] = (g[j] - prior[j]) / (spread[j] * spread[j])
			hess[j] = make([]float64, evidences)
			hess[j][j] = 1 / (spread[j] * spread[j])
		}
		for _, it := range items {
			p := g.confidence(it.evidence)
			miss := p
			if it.right {
				miss = p - 1
			}
			for a := range grad {
				grad[a] += it.weight * miss * it.evidence[a]
				for b := range evidences {
					hess[a][b] += it.weight * max(p*(1-p), 1e-3) * it.evidence[a] * it.evidence[b]
				}
			}
		}
		// What lies at its bound and would go beyond it stays.
		for j := range g {
			if signs[j]*g[j] <= 0 && signs[j]*grad[j] > 0 {
				for b := range evidences {
					hess[j][b], hess[b][j] = 0, 0
				}
				hess[j][j], grad[j] = 1, 0
			}
		}
		size := 0.0
		for j, d := range solve(hess, grad) {
			before := g[j]
			g[j] -= d
			if signs[j]*g[j] < 0 {
				g[j] = 0
			}
			size += (g[j] - before) * (g[j] - before)
		}
		if size < 1e-10 {
			break
		}
	}
	return g
}
