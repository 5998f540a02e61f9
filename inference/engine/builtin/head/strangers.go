package head

import (
	_ "embed"
	"strings"
	"sync"

	"github.com/viterin/vek/vek32"
)

var (
	//go:embed strangers.txt
	strangerText string
	// strangerData has a row for each text: its vector's numbers, a byte each. It is
	// made by convert/strangers.
	//go:embed strangers.bin
	strangerData []byte
)

// StrangerScale is what a number of a vector is multiplied with in strangers.bin: no
// number of the encoder's is as great as a quarter.
const StrangerScale = 500

var strangers = sync.OnceValue(func() (out []string) {
	for line := range strings.Lines(strangerText) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
})

// Strangers are general questions and remarks that no business's examples answer.
// Fit learns from them what to abstain on. The slice is shared: don't change it.
func Strangers() []string { return strangers() }

// StrangerVector is about the encoder's vector of the stranger at a place.
func StrangerVector(at int) []float32 {
	out := make([]float32, Dimensions)
	for d := range out {
		out[d] = float32(int8(strangerData[at*Dimensions+d])) / StrangerScale
	}
	return out
}

// foreigners are the strangers as one head sees them.
type foreigners struct {
	vectors []float32 // centred and of length 1
	mean    []float32 // of length 1
}

func newForeigners(mean []float32) foreigners {
	n := len(Strangers())
	f := foreigners{vectors: make([]float32, n*Dimensions), mean: make([]float32, Dimensions)}
	for i := range n {
		v := StrangerVector(i)
		vek32.Add_Inplace(f.mean, v)
		vek32.Sub_Inplace(v, mean)
		unit(f.vectors[i*Dimensions:(i+1)*Dimensions], v)
	}
	unit(f.mean, f.mean)
	return f
}

// judge returns how near the nearest stranger is to a centred vector, and how much
// more the vector is like the head's mean than like the strangers'. except is the
// stranger that the vector is itself, or -1.
func (f foreigners) judge(x, mean []float32, except int) (foreign, home float64) {
	u := make([]float32, Dimensions)
	unit(u, x)
	foreign = -1
	for i, c := range multiplyRows(f.vectors, u) {
		if i != except {
			foreign = max(foreign, float64(c))
		}
	}
	whole := make([]float32, Dimensions)
	vek32.Add_Into(whole, x, mean)
	unit(whole, whole)
	unit(u, mean)
	return foreign, float64(vek32.Dot(whole, u) - vek32.Dot(whole, f.mean))
}
