package head

import "math"

// gramIndex compares texts by their letters.
type gramIndex struct {
	at    map[uint64]int32
	idf   []float64
	posts [][]posting
	rare  float64
}

type posting struct {
	text   int32
	weight float32
}

func newGramIndex(texts [][]gram) gramIndex {
	x := gramIndex{at: map[uint64]int32{}}
	for i, grams := range texts {
		for _, g := range grams {
			id, known := x.at[g.hash]
			if !known {
				id = int32(len(x.posts))
				x.at[g.hash] = id
				x.posts = append(x.posts, nil)
			}
			x.posts[id] = append(x.posts[id], posting{int32(i), float32(g.weight)})
		}
	}
	n := float64(len(texts))
	x.rare = math.Log(1 + n)
	x.idf = make([]float64, len(x.posts))
	norm := make([]float64, len(texts))
	for id, posts := range x.posts {
		x.idf[id] = math.Log(1 + n/float64(len(posts)))
		for _, p := range posts {
			norm[p.text] += math.Pow(float64(p.weight)*x.idf[id], 2)
		}
	}
	for id, posts := range x.posts {
		for j := range posts {
			posts[j].weight = float32(float64(posts[j].weight) * x.idf[id] / math.Sqrt(norm[posts[j].text]))
		}
	}
	return x
}

func (x *gramIndex) bytes() int64 {
	n := int64(0)
	for _, posts := range x.posts {
		n += int64(len(posts))*8 + 64
	}
	return n
}

// cosines returns the similarity of each of n texts.
func (x *gramIndex) cosines(grams []gram, n int) []float64 {
	out := make([]float64, n)
	norm := 0.0
	for _, g := range grams {
		id, known := x.at[g.hash]
		if !known {
			norm += g.weight * x.rare * g.weight * x.rare
			continue
		}
		w := g.weight * x.idf[id]
		norm += w * w
		for _, p := range x.posts[id] {
			out[p.text] += w * float64(p.weight)
		}
	}
	if norm > 0 {
		for i := range out {
			out[i] /= math.Sqrt(norm)
		}
	}
	return out
}
