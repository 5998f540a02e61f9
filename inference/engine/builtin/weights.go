package builtin

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

//go:embed data/encoder.bin
var weightData []byte

// The model's sizes.
const (
	// Dimensions is the length of every vector.
	Dimensions = 512
	// MaxTokens is how much of a text the encoder reads; the rest is ignored.
	MaxTokens = 128

	vocabRows = 8002
	embedDim  = 256
	ffnDim    = 1536
	heads     = 4
)

// layer holds one transformer layer; matrices are [in, out] in row order.
type layer struct {
	dim              int // width of its input
	normG, normC     []float32
	qkv, qkvB        []float32
	out, outB        []float32
	ffnNormG         []float32
	ffnNormC         []float32
	ffn1, ffn1B      []float32
	ffn2, ffn2B      []float32
	widen, widenBias []float32 // layer 0's way for the residual from 256 to 512; else nil
}

// weights is the model. It is immutable.
type weights struct {
	embed     []float32 // [8002, 256]
	signal    []float32 // [MaxTokens, 256], by position
	layers    [2]layer
	tanh      []float32
	tanhBias  []float32
	frequency []float32
}

// The file's format is documented in convert/main.go, which writes it.
const (
	fileMagic   = "FHENCODE"
	fileVersion = 1
	fileTensors = 30
	kindFloat32 = 1
	kindInt16   = 2
	headerSize  = 8 + 4 + 4 + sha256.Size
)

func readWeights(b []byte) (*weights, error) {
	if len(b) < headerSize || string(b[:8]) != fileMagic {
		return nil, errors.New("read weights: not an encoder file")
	}
	if v, n := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]); v != fileVersion || n != fileTensors {
		return nil, fmt.Errorf("read weights: version %d with %d tensors, want %d with %d", v, n, fileVersion, fileTensors)
	}
	if sha256.Sum256(b[headerSize:]) != [sha256.Size]byte(b[16:headerSize]) {
		return nil, errors.New("read weights: checksum differs, the file is damaged")
	}
	r := &tensorReader{rest: b[headerSize:]}
	w := &weights{}
	w.embed = r.next(vocabRows, embedDim)
	w.frequency = r.next(embedDim / 2)
	widen, widenBias := r.next(embedDim, Dimensions), r.next(Dimensions)
	for i, dim := range []int{embedDim, Dimensions} {
		l := &w.layers[i]
		l.dim = dim
		l.normG, l.normC = r.next(dim), r.next(dim)
		l.qkv, l.qkvB = r.next(dim, 3*dim), r.next(3*dim)
		l.out, l.outB = r.next(dim, Dimensions), r.next(Dimensions)
		l.ffnNormG, l.ffnNormC = r.next(Dimensions), r.next(Dimensions)
		l.ffn1, l.ffn1B = r.next(Dimensions, ffnDim), r.next(ffnDim)
		l.ffn2, l.ffn2B = r.next(ffnDim, Dimensions), r.next(Dimensions)
	}
	w.layers[0].widen, w.layers[0].widenBias = widen, widenBias
	w.tanh, w.tanhBias = r.next(Dimensions, Dimensions), r.next(Dimensions)
	if r.err == nil && len(r.rest) > 0 {
		r.err = errors.New("data after the last tensor")
	}
	if r.err != nil {
		return nil, fmt.Errorf("read weights: %w", r.err)
	}
	w.signal = positionSignal(w.frequency)
	// The graph adds the embedding, then the signal, then the embedding again.
	for i := range w.embed {
		w.embed[i] *= 2
	}
	return w, nil
}

// positionSignal is s(t) = [sin(t·f), cos(t·f)] for each position t.
func positionSignal(f []float32) []float32 {
	s := make([]float32, MaxTokens*embedDim)
	for t := range MaxTokens {
		row := s[t*embedDim:]
		for j, freq := range f {
			sin, cos := math.Sincos(float64(t) * float64(freq))
			row[j], row[len(f)+j] = float32(sin), float32(cos)
		}
	}
	return s
}

// tensorReader reads tensors in order; after the first error it returns nil.
type tensorReader struct {
	rest []byte
	err  error
	n    int
}

// next reads a tensor that must have this shape.
func (r *tensorReader) next(shape ...int) []float32 {
	r.n++
	if r.err != nil {
		return nil
	}
	size, elements := 2+4*len(shape), 1
	if len(r.rest) < size || int(r.rest[1]) != len(shape) {
		r.err = fmt.Errorf("tensor %d: bad header", r.n)
		return nil
	}
	for i, want := range shape {
		if int(binary.LittleEndian.Uint32(r.rest[2+4*i:])) != want {
			r.err = fmt.Errorf("tensor %d: bad shape", r.n)
			return nil
		}
		elements *= want
	}
	kind, raw := r.rest[0], r.rest[size:]
	rowLen := shape[len(shape)-1]
	rows := elements / rowLen
	length := map[byte]int{kindFloat32: 4 * elements, kindInt16: rows * (4 + 2*rowLen)}[kind]
	if length == 0 || len(raw) < length {
		r.err = fmt.Errorf("tensor %d: bad kind or length", r.n)
		return nil
	}
	r.rest = raw[length:]
	out := make([]float32, 0, elements)
	for range rows {
		if kind == kindFloat32 {
			for i := range rowLen {
				out = append(out, float32At(raw[4*i:]))
			}
			raw = raw[4*rowLen:]
			continue
		}
		scale := float32At(raw)
		for i := range rowLen {
			out = append(out, scale*float32(int16(binary.LittleEndian.Uint16(raw[4+2*i:]))))
		}
		raw = raw[4+2*rowLen:]
	}
	return out
}

func float32At(b []byte) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b))
}
