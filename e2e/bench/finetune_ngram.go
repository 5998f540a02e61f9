package main

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
)

// The peer without an encoder: logistic regression over hashed n-grams, of words (1
// and 2) and of letters within words (3 to 5), with AdaGrad.
const (
	ngramBuckets = 1 << 18
	ngramEpochs  = 30
	ngramRate    = 0.3
)

// ngrams is its accuracy on a corpus.
func ngrams(c corpus) float64 {
	at := map[string]int{}
	for _, p := range c.train {
		if _, known := at[p.answer]; !known {
			at[p.answer] = len(at)
		}
	}
	classes := len(at)
	weights, squares := make([]float32, ngramBuckets*classes), make([]float32, ngramBuckets*classes)
	logits := func(features []int) []float64 {
		z := make([]float64, classes)
		for _, f := range features {
			for k := range z {
				z[k] += float64(weights[f*classes+k])
			}
		}
		return z
	}
	features := make([][]int, len(c.train))
	for i, p := range c.train {
		features[i] = hashedNgrams(p.prompt)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range ngramEpochs {
		for _, i := range random.Perm(len(c.train)) {
			z := logits(features[i])
			sum, most := 0.0, z[0]
			for _, v := range z {
				most = max(most, v)
			}
			for k := range z {
				z[k] = math.Exp(z[k] - most)
				sum += z[k]
			}
			for k := range z {
				g := float32(z[k]/sum - share(k == at[c.train[i].answer]))
				for _, f := range features[i] {
					w := f*classes + k
					squares[w] += g * g
					weights[w] -= ngramRate * g / (float32(math.Sqrt(float64(squares[w]))) + 1e-6)
				}
			}
		}
	}
	right := 0.0
	for _, p := range c.held {
		best, z := 0, logits(hashedNgrams(p.prompt))
		for k := range z {
			if z[k] > z[best] {
				best = k
			}
		}
		right += share(best == at[p.answer])
	}
	return right / float64(len(c.held))
}

func hashedNgrams(text string) (out []int) {
	add := func(s string) {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s))
		out = append(out, int(h.Sum64()%ngramBuckets))
	}
	before := ""
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return strings.ContainsRune(" ,.?!'", r) }) {
		add("1" + word)
		if before != "" {
			add("2" + before + " " + word)
		}
		before = word
		r := []rune("<" + word + ">")
		for n := 3; n <= 5; n++ {
			for i := 0; i+n <= len(r); i++ {
				add("3" + string(r[i:i+n]))
			}
		}
	}
	return out
}
