package head

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"freehold/inference/engine/builtin/lexicon"
)

// lexical compares texts by their words: equal ones, kindred ones, synonyms.
type lexical struct {
	ids    map[string]int32
	list   []string
	idf    []float64
	posts  [][]int32 // by word: the texts that have it, ascending
	total  []float64 // by text: the sum of its words' idf
	begins map[string][]int32
	groups map[int][]int32
	circle map[int32][]int32
	rare   float64 // idf of a word that no text has
}

// askWeight is what a word for the kind of thing asked counts beside one with a topic.
const askWeight = 0.4

func newLexical(texts [][]string) lexical {
	x := lexical{ids: map[string]int32{}, total: make([]float64, len(texts)), begins: map[string][]int32{}, groups: map[int][]int32{}, circle: map[int32][]int32{}}
	for i, terms := range texts {
		for _, t := range terms {
			id, known := x.ids[t]
			if !known {
				id = int32(len(x.list))
				x.ids[t] = id
				x.list = append(x.list, t)
				x.posts = append(x.posts, nil)
				if len(t) >= 5 {
					x.begins[t[:5]] = append(x.begins[t[:5]], id)
				}
				if g := lexicon.Group(t); g != 0 {
					x.groups[g] = append(x.groups[g], id)
				}
				for _, c := range lexicon.Circles(t) {
					x.circle[c] = append(x.circle[c], id)
				}
			}
			x.posts[id] = append(x.posts[id], int32(i))
		}
	}
	n := float64(len(texts))
	idf := func(having float64) float64 { return math.Log(1 + (n-having+0.5)/(having+0.5)) }
	x.rare = idf(0)
	x.idf = make([]float64, len(x.list))
	for id, posts := range x.posts {
		x.idf[id] = idf(float64(len(posts)))
		if strings.HasPrefix(x.list[id], "?") {
			x.idf[id] *= askWeight
		}
		for _, i := range posts {
			x.total[i] += x.idf[id]
		}
	}
	return x
}

func (x *lexical) bytes() int64 {
	n := int64(len(x.total)) * 8
	for id, posts := range x.posts {
		n += int64(len(x.list[id]))*2 + int64(len(posts))*4 + 160
	}
	return n
}

// kin is a known word that an asked one stands for, and how surely.
type kin struct {
	id    int32
	worth float64
}

// How surely two words mean the same that aren't the same to the lexicon's groups.
const (
	circleWorth = 0.75 // of one circle
	typoWorth   = 0.7  // one known to nobody, the other a letter away
)

// kinOf returns the known words that are kindred to one, by id.
func (x *lexical) kinOf(term string) []kin {
	var out []kin
	see := func(id int32) {
		if w := lexicon.Kinship(term, x.list[id]); w > 0 && !slices.ContainsFunc(out, func(k kin) bool { return k.id == id }) {
			out = append(out, kin{id, w})
		}
	}
	if id, ok := x.ids[term]; ok {
		see(id)
	}
	if len(term) >= 5 {
		for _, id := range x.begins[term[:5]] {
			see(id)
		}
	}
	if g := lexicon.Group(term); g != 0 {
		for _, id := range x.groups[g] {
			see(id)
		}
	}
	for _, c := range lexicon.Circles(term) {
		for _, id := range x.circle[c] {
			if !slices.ContainsFunc(out, func(k kin) bool { return k.id == id }) {
				out = append(out, kin{id, circleWorth})
			}
		}
	}
	if len(out) == 0 && !strings.HasPrefix(term, "?") && !lexicon.Known(term) {
		for id, t := range x.list {
			if lexicon.Typo(term, t) {
				out = append(out, kin{int32(id), typoWorth})
			}
		}
	}
	slices.SortFunc(out, func(a, b kin) int { return cmp.Compare(a.id, b.id) })
	return out
}

// overlap returns for each text how much of its and the question's words meet, 0 to
// 1, and how much of the question's words meets any text. What skip names is left out.
func (x *lexical) overlap(terms []string, skip func(text int32) bool) (each []float64, known float64) {
	each = make([]float64, len(x.total))
	forward := make([]float64, len(x.total))
	best := make([]float64, len(x.total))
	back := map[int32]float64{}
	var touched, ids []int32
	asked, met := 0.0, 0.0
	for _, t := range terms {
		family := x.kinOf(t)
		weight, most := x.rare, 0.0
		touched = touched[:0]
		for _, k := range family {
			if k.worth == 1 {
				weight = x.idf[k.id]
			}
			if back[k.id] == 0 {
				ids = append(ids, k.id)
			}
			back[k.id] = max(back[k.id], k.worth)
			for _, i := range x.posts[k.id] {
				if skip(i) {
					continue
				}
				if best[i] == 0 {
					touched = append(touched, i)
				}
				best[i] = max(best[i], k.worth)
				most = max(most, k.worth)
			}
		}
		if strings.HasPrefix(t, "?") {
			if len(family) == 0 {
				weight *= askWeight
			}
		} else {
			asked += weight
			met += weight * most
		}
		for _, i := range touched {
			forward[i] += weight * best[i]
			best[i] = 0
		}
		for i := range each {
			each[i] += weight // the question's own weight, for now
		}
	}
	backward := make([]float64, len(x.total))
	slices.Sort(ids)
	for _, id := range ids {
		for _, i := range x.posts[id] {
			backward[i] += x.idf[id] * back[id]
		}
	}
	for i := range each {
		sum := each[i] + x.total[i]
		each[i] = 0
		if sum > 0 && !skip(int32(i)) {
			each[i] = (forward[i] + backward[i]) / sum
		}
	}
	if asked > 0 {
		known = met / asked
	}
	return each, known
}

// hits tells visit of each text with a word kindred to term, and how surely; a text
// may come more than once.
func (x *lexical) hits(term string, visit func(text int32, worth float64)) {
	for _, k := range x.kinOf(term) {
		for _, i := range x.posts[k.id] {
			visit(i, k.worth)
		}
	}
}
