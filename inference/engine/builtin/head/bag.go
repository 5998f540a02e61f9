package head

import (
	"cmp"
	"math"
	"slices"
)

// maxFeatures is how many words and pairs of words a bag tells apart.
const maxFeatures = 1 << 16

// bag is a naive Bayes classifier over words and pairs of words; it is what tells
// long texts apart. Counts of an example can be taken off, so that it can be judged
// by all others.
type bag struct {
	at     map[uint64]int32
	counts [][]count // by feature: classes that have it, ascending
	all    []float64 // by feature: its count
	sizes  []float64 // by class: the sum of its counts
	total  float64
}

type count struct {
	class int32
	n     float32
}

// tally is a feature's count in one text.
type tally struct {
	id int32
	n  float64
}

func newBag(texts [][]uint64, class []int32, classes int) bag {
	type seen struct {
		hash uint64
		df   int
		last int
	}
	at := map[uint64]int{}
	var features []seen
	for i, tokens := range texts {
		for _, h := range tokens {
			k, known := at[h]
			if !known {
				k = len(features)
				at[h] = k
				features = append(features, seen{hash: h, last: -1})
			}
			if features[k].last != i {
				features[k].last = i
				features[k].df++
			}
		}
	}
	slices.SortStableFunc(features, func(a, b seen) int {
		return cmp.Or(cmp.Compare(b.df, a.df), cmp.Compare(a.hash, b.hash))
	})
	features = features[:min(len(features), maxFeatures)]
	b := bag{at: make(map[uint64]int32, len(features)), counts: make([][]count, len(features)),
		all: make([]float64, len(features)), sizes: make([]float64, classes)}
	for id, f := range features {
		b.at[f.hash] = int32(id)
	}
	// A class after the other, so that each feature's classes ascend.
	order := make([]int, len(texts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(class[i], class[j]) })
	for _, i := range order {
		for _, t := range b.tallies(texts[i]) {
			row := b.counts[t.id]
			if len(row) == 0 || row[len(row)-1].class != class[i] {
				row = append(row, count{class: class[i]})
			}
			row[len(row)-1].n += float32(t.n)
			b.counts[t.id] = row
			b.all[t.id] += t.n
			b.sizes[class[i]] += t.n
			b.total += t.n
		}
	}
	return b
}

// tallies counts a text's known features, made short, by id.
func (b *bag) tallies(tokens []uint64) []tally {
	ids := make([]int32, 0, len(tokens))
	for _, h := range tokens {
		if id, ok := b.at[h]; ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var out []tally
	for i, id := range ids {
		if i == 0 || id != ids[i-1] {
			out = append(out, tally{id: id})
		}
		out[len(out)-1].n++
	}
	for i := range out {
		out[i].n = math.Log(1+out[i].n) / math.Ln2
	}
	return out
}

func (b *bag) bytes() int64 {
	n := int64(len(b.sizes)) * 8
	for _, row := range b.counts {
		n += int64(len(row))*8 + 80
	}
	return n
}

// smooth is how many words of the average text each class is given besides its own.
const smooth = 8.0

// scores returns each class's log likelihood against the average class's, divided
// by the root of the text's length. own, when it is a class, has the text itself
// among its counts, which are taken off.
func (b *bag) scores(text []tally, own int) []float64 {
	out := make([]float64, len(b.sizes))
	if len(text) == 0 {
		return out
	}
	length := 0.0
	for _, t := range text {
		length += t.n
	}
	base := 0.0 // what a class without any of the words gets, but for its size
	for _, t := range text {
		all, total := b.all[t.id], b.total
		if own >= 0 {
			all, total = all-t.n, total-length
		}
		if all <= 1e-6 {
			continue // nobody else has it: it tells nothing
		}
		prior := smooth * all / total
		base += t.n
		for _, c := range b.counts[t.id] {
			n := float64(c.n)
			if int(c.class) == own {
				n -= t.n
			}
			if n > 1e-6 {
				out[c.class] += t.n * math.Log((n+prior)/prior)
			}
		}
	}
	for k := range out {
		size := b.sizes[k]
		if k == own {
			size -= length
		}
		out[k] -= base * math.Log((max(size, 0)+smooth)/smooth)
		out[k] /= math.Sqrt(length)
	}
	return out
}
