package head

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Format is the version of what Write makes. Read refuses others.
const Format = "1"

// MaxBytes is the size of the greatest artifact that Read takes.
const MaxBytes = 256 << 20

// ErrArtifact is returned by Read for bytes that are no head of this format.
var ErrArtifact = errors.New("not a head, or damaged")

// tensor is one entry of a safetensors header.
type tensor struct {
	Type    string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// part is a tensor with its bytes.
type part struct {
	name  string
	kind  string
	shape []int
	data  []byte
}

// texts is what an artifact holds as words: a U8 tensor of JSON.
type texts struct {
	Answers  []string `json:"answers"`
	Examples []string `json:"examples"`
}

// Write writes a head as safetensors: 8 bytes with the header's length, the header
// as JSON, the tensors. Equal heads make equal bytes.
func (h *Head) Write(w io.Writer) error {
	m := h.memory
	words, err := json.Marshal(texts{h.answers, m.texts})
	if err != nil {
		return fmt.Errorf("encode texts: %w", err)
	}
	choice := make([]float64, 0, members+evidences+1)
	choice = append(choice, h.stack[:]...)
	choice = append(choice, h.accept[:]...)
	choice = append(choice, h.threshold)
	class := make([]byte, 0, 4*len(m.class))
	for _, k := range m.class {
		class = binary.LittleEndian.AppendUint32(class, uint32(k))
	}
	parts := []part{
		{"choice", "F64", []int{len(choice)}, doubles(choice)},
		{"examples.class", "I32", []int{len(m.class)}, class},
		{"examples.vectors", "F32", []int{len(m.class), Dimensions}, floats(m.vectors)},
		{"linear.bias", "F32", []int{len(h.linear.b)}, floats(h.linear.b)},
		{"linear.weight", "F32", []int{Dimensions, len(h.linear.b)}, floats(h.linear.w)},
		{"mean", "F32", []int{Dimensions}, floats(h.mean)},
		{"texts", "U8", []int{len(words)}, words},
	}
	if h.answerV != nil {
		var flat []float32
		for _, v := range h.answerV {
			if v == nil {
				v = make([]float32, Dimensions)
			}
			flat = append(flat, v...)
		}
		parts = append(parts, part{"answers.vectors", "F32", []int{len(h.answerV), Dimensions}, floats(flat)})
	}
	header := map[string]any{"__metadata__": map[string]string{"format": Format, "classes": strconv.Itoa(len(h.answers))}}
	var at int64
	for _, p := range parts {
		next := at + int64(len(p.data))
		header[p.name] = tensor{p.kind, p.shape, [2]int64{at, next}}
		at = next
	}
	text, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("encode header: %w", err)
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	if _, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)); err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.Write(p.data); err != nil {
			return err
		}
	}
	return nil
}

func floats(v []float32) []byte {
	out := make([]byte, 0, 4*len(v))
	for _, f := range v {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(f))
	}
	return out
}

func doubles(v []float64) []byte {
	out := make([]byte, 0, 8*len(v))
	for _, f := range v {
		out = binary.LittleEndian.AppendUint64(out, math.Float64bits(f))
	}
	return out
}

// maxHeader bounds a header of nine entries.
const maxHeader = 64 << 10

// Read reads what Write has written, size bytes. Anything else is refused with
// ErrArtifact, or r's own error, and never takes more memory than a few times size.
func Read(r io.Reader, size int64) (*Head, error) {
	if size < 8 || size > MaxBytes {
		return nil, ErrArtifact
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("read head: %w", err)
	}
	return parse(raw)
}

func parse(raw []byte) (*Head, error) {
	length := binary.LittleEndian.Uint64(raw)
	if length > maxHeader || int64(length) > int64(len(raw)-8) {
		return nil, ErrArtifact
	}
	var header map[string]json.RawMessage
	if json.Unmarshal(raw[8:8+length], &header) != nil {
		return nil, ErrArtifact
	}
	var about map[string]string
	if json.Unmarshal(header["__metadata__"], &about) != nil || about["format"] != Format {
		return nil, ErrArtifact
	}
	a := artifact{header, raw[8+length:]}
	return a.head()
}

// artifact is a parsed one.
type artifact struct {
	header map[string]json.RawMessage
	data   []byte
}

// bytes returns a tensor's, if it has this type and shape; -1 is any length.
func (a artifact) bytes(name, kind string, width int, shape ...int) ([]byte, int, bool) {
	var t tensor
	if json.Unmarshal(a.header[name], &t) != nil || t.Type != kind || len(t.Shape) != len(shape) {
		return nil, 0, false
	}
	from, to := t.Offsets[0], t.Offsets[1]
	if from < 0 || to < from || to > int64(len(a.data)) {
		return nil, 0, false
	}
	n := int64(width)
	for i, want := range shape {
		if s := t.Shape[i]; s < 0 || s > MaxBytes || want >= 0 && s != want {
			return nil, 0, false
		}
		n *= int64(t.Shape[i])
		if n > MaxBytes {
			return nil, 0, false
		}
	}
	if n != to-from {
		return nil, 0, false
	}
	return a.data[from:to], t.Shape[0], true
}

func (a artifact) floats(name string, shape ...int) ([]float32, bool) {
	raw, _, ok := a.bytes(name, "F32", 4, shape...)
	if !ok {
		return nil, false
	}
	out := make([]float32, len(raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		if f := float64(out[i]); math.IsNaN(f) || math.Abs(f) > 1e6 {
			return nil, false
		}
	}
	return out, true
}

func (a artifact) head() (*Head, error) {
	var t texts
	words, _, ok := a.bytes("texts", "U8", 1, -1)
	if !ok || !utf8.Valid(words) || json.Unmarshal(words, &t) != nil {
		return nil, ErrArtifact
	}
	k, n := len(t.Answers), len(t.Examples)
	if k == 0 || k > MaxClasses || n == 0 || n > maxKept {
		return nil, ErrArtifact
	}
	if slices.ContainsFunc(t.Examples, func(s string) bool { return len(s) > maxTextBytes+8 }) {
		return nil, ErrArtifact
	}
	h := &Head{answers: t.Answers, labels: labelsOf(t.Answers)}
	rawClass, _, okClass := a.bytes("examples.class", "I32", 4, n)
	rawChoice, _, okChoice := a.bytes("choice", "F64", 8, members+evidences+1)
	vectors, okVectors := a.floats("examples.vectors", n, Dimensions)
	var okW, okB, okM bool
	h.linear.w, okW = a.floats("linear.weight", Dimensions, k)
	h.linear.b, okB = a.floats("linear.bias", k)
	h.mean, okM = a.floats("mean", Dimensions)
	if !okClass || !okChoice || !okVectors || !okW || !okB || !okM {
		return nil, ErrArtifact
	}
	class := make([]int32, n)
	for i := range class {
		at := binary.LittleEndian.Uint32(rawClass[4*i:])
		if at >= uint32(k) {
			return nil, ErrArtifact
		}
		class[i] = int32(at)
	}
	choice := make([]float64, members+evidences+1)
	for i := range choice {
		choice[i] = math.Float64frombits(binary.LittleEndian.Uint64(rawChoice[8*i:]))
		if math.IsNaN(choice[i]) || math.Abs(choice[i]) > 1e6 {
			return nil, ErrArtifact
		}
	}
	copy(h.stack[:], choice)
	copy(h.accept[:], choice[members:])
	h.threshold = choice[members+evidences]
	if _, there := a.header["answers.vectors"]; there {
		flat, ok := a.floats("answers.vectors", k, Dimensions)
		if !ok {
			return nil, ErrArtifact
		}
		h.answerV = make([][]float32, k)
		for i := range h.answerV {
			v := flat[i*Dimensions : (i+1)*Dimensions]
			if slices.ContainsFunc(v, func(f float32) bool { return f != 0 }) {
				h.answerV[i] = v
			}
		}
	}
	h.foreign = newForeigners(h.mean)
	h.memory = newMemory(t.Examples, class, vectors, h.answers, h.centredAnswers())
	return h, nil
}
