package builtin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"math"
	"os"
	"path/filepath"

	"freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
)

const (
	// chunk is how many texts are encoded between two checkpoints: about two seconds.
	chunk = 128
	// answersEncoded is how many different answers have vectors of their own: beyond
	// that most occur once, and encoding them would take as long as the prompts.
	answersEncoded = 500
)

// list is what a training has to encode, each text once.
type list struct {
	texts   []string
	at      map[string]int
	answers bool // the answers are among them
}

func (l *list) add(text string) {
	if _, known := l.at[text]; !known {
		l.at[text] = len(l.texts)
		l.texts = append(l.texts, text)
	}
}

// list puts the prompts first: they are what costs, and what a resumed job has.
func (t *task) list(train, validation []lesson) *list {
	l := &list{at: map[string]int{}}
	answers := map[string]bool{}
	for _, e := range train {
		l.add(e.text)
		answers[e.answer] = true
	}
	for _, e := range validation {
		l.add(e.text)
	}
	if l.answers = len(answers) <= answersEncoded; l.answers {
		for _, e := range train {
			l.add(head.Normalize(e.answer))
		}
	}
	return l
}

// encode returns each text's vector. A chunk that an earlier try has saved isn't
// encoded again.
func (t *task) encode(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, 0, len(texts))
	resumed := 0
	for from := 0; from < len(texts); from += chunk {
		part := texts[from:min(from+chunk, len(texts))]
		c := chunkOf(from/chunk, part)
		vectors, ok := c.load(t.checkpoints)
		if ok {
			resumed += len(part)
		} else {
			var err error
			if vectors, err = t.encoder.EncodeAll(ctx, part); err != nil {
				return nil, err
			}
			if err := c.save(t.checkpoints, vectors); err != nil {
				return nil, err
			}
			if err := t.say(line{Type: "saved", File: c.name}); err != nil {
				return nil, err
			}
		}
		out = append(out, vectors...)
		last := from+chunk >= len(texts)
		if last || !ok && (from/chunk)%10 == 9 {
			if err := t.say(line{Type: "message", Level: "info", Message: fmt.Sprintf("Encoded %d of %d texts", len(out), len(texts))}); err != nil {
				return nil, err
			}
		}
	}
	if resumed > 0 {
		err := t.say(line{Type: "message", Level: "info", Message: fmt.Sprintf("%d texts had been encoded by an earlier try", resumed)})
		return out, err
	}
	return out, nil
}

// chunkFile is a chunk's file: a line of JSON, then float32, little-endian.
type chunkFile struct {
	name   string
	header chunkHeader
}

// chunkHeader says what a chunk is of. A file with another one is of no use.
type chunkHeader struct {
	Encoder string `json:"encoder"` // its sum
	Texts   string `json:"texts"`   // the sum of what was encoded
	Chunk   int    `json:"chunk"`
	Count   int    `json:"count"`
	Sum     string `json:"sum,omitempty"` // of the numbers
}

func chunkOf(n int, texts []string) chunkFile {
	sum := sha256.New()
	for _, text := range texts {
		writeText(sum, text)
	}
	return chunkFile{
		name:   fmt.Sprintf("vectors-%05d.bin", n),
		header: chunkHeader{Encoder: builtin.EncoderSum(), Texts: hex.EncodeToString(sum.Sum(nil)), Chunk: n, Count: len(texts)},
	}
}

// writeText adds a text to a sum so that no two lists of texts have the same.
func writeText(h hash.Hash, text string) {
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
	_, _ = h.Write([]byte(text))
}

// load returns the vectors of a file that is whole and of these texts.
func (c chunkFile) load(dir string) ([][]float32, bool) {
	raw, err := os.ReadFile(filepath.Join(dir, c.name))
	if err != nil {
		return nil, false
	}
	first, data, found := bytes.Cut(raw, []byte("\n"))
	var h chunkHeader
	if !found || json.Unmarshal(first, &h) != nil || len(data) != c.header.Count*head.Dimensions*4 {
		return nil, false
	}
	want := c.header
	want.Sum = sumOf(data)
	if h != want {
		return nil, false
	}
	out := make([][]float32, c.header.Count)
	for i := range out {
		out[i] = make([]float32, head.Dimensions)
		for d := range out[i] {
			out[i][d] = math.Float32frombits(binary.LittleEndian.Uint32(data[(i*head.Dimensions+d)*4:]))
		}
	}
	return out, true
}

// save writes a chunk; a process killed meanwhile leaves no half of it under its name.
func (c chunkFile) save(dir string, vectors [][]float32) error {
	data := make([]byte, 0, len(vectors)*head.Dimensions*4)
	for _, v := range vectors {
		for _, f := range v {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(f))
		}
	}
	h := c.header
	h.Sum = sumOf(data)
	first, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("save vectors: %w", err)
	}
	path := filepath.Join(dir, c.name)
	if err := os.WriteFile(path+".part", append(append(first, '\n'), data...), 0o600); err != nil {
		return fmt.Errorf("save vectors: %w", err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		return fmt.Errorf("save vectors: %w", err)
	}
	return nil
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
