package builtin_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freehold/inference/engine/builtin"
)

// TestParity compares ids and vectors with what TensorFlow.js computes from the
// published weights (convert/reference.mjs).
func TestParity(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Text   string
		IDs    []int32
		Vector []float64
	}
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) < 20 {
		t.Fatalf("%d reference rows", len(rows))
	}
	worst := 0.0
	for _, row := range rows {
		want := row.IDs[:min(len(row.IDs), builtin.MaxTokens)]
		if got := encoder(t).IDs(row.Text); !slices.Equal(got, want) {
			t.Errorf("%q: ids %v, want %v", row.Text, got, want)
		}
		v := encode(t, row.Text)
		if len(v) != builtin.Dimensions || len(row.Vector) != builtin.Dimensions {
			t.Fatalf("%q: %d numbers", row.Text, len(v))
		}
		for i := range v {
			worst = max(worst, math.Abs(float64(v[i])-row.Vector[i]))
		}
	}
	t.Logf("%d texts: greatest difference of a component %.1e", len(rows), worst)
	if worst > 1e-4 {
		t.Errorf("a component differs by %.1e, want at most 1e-4", worst)
	}
}

// TestGolden holds values of the float32 prototype, another port of the graph.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		ids  []int32
		head []float64
	}{
		{
			"How do I reset my password?",
			[]int32{728, 64, 16, 137, 1383, 69, 5969, 54},
			[]float64{-0.048459094, -0.05457258, 0.04022634, -0.05393819, 0.05437365},
		},
		{
			"I forgot my login credentials",
			[]int32{16, 5617, 69, 3063, 97, 2266, 26, 4187, 7},
			[]float64{-0.06499275, -0.067253575, 0.010595474, -0.05892362, 0.021677965},
		},
		{
			"What is the weather like today?",
			[]int32{379, 18, 9, 3524, 60, 784, 54},
			[]float64{-0.05499392, -0.05174717, -0.054105338, 0.051227026, -0.04924974},
		},
	} {
		if got := encoder(t).IDs(c.text); !slices.Equal(got, c.ids) {
			t.Errorf("%q: ids %v, want %v", c.text, got, c.ids)
		}
		v := encode(t, c.text)
		for i, want := range c.head {
			if math.Abs(float64(v[i])-want) > 5e-4 {
				t.Errorf("%q: component %d is %v, want %v", c.text, i, v[i], want)
			}
		}
	}
	got := cosine(encode(t, "How do I reset my password?"), encode(t, "I forgot my login credentials"))
	if math.Abs(got-0.525971) > 0.001 {
		t.Errorf("cosine %v, want 0.526", got)
	}
}

// TestColons pins what became of the nine scores that the vocabulary has lost.
func TestColons(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]int32{
		"Meet at 7:30": {502, 445, 38, 444, 4177},
		"Open at 9:00": {4304, 38, 538, 5920},
		"Note: closed": {4566, 57, 3267},
		":)":           {658},
		"a://b":        {11, 255, 151},
	} {
		if got := encoder(t).IDs(text); !slices.Equal(got, want) {
			t.Errorf("%q: ids %v, want %v", text, got, want)
		}
	}
}

func TestOddTexts(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "space": " ", "newlines": "\n\n", "unknown": "☃☃☃ 漢字", "nul": "\x00", "invalid": "a\xff\xfeb",
		"emoji": "👩‍👩‍👧‍👦", "long": strings.Repeat("word ", 5000), "one word": strings.Repeat("x", 100_000),
		"marks": "e" + strings.Repeat("\u0301", 5000), "expanding": strings.Repeat("\ufdfa", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := encode(t, text)
			if norm := math.Sqrt(cosine(v, v)); math.Abs(norm-1) > 1e-5 {
				t.Errorf("length %v, want 1", norm)
			}
			if n := len(encoder(t).IDs(text)); n < 1 || n > builtin.MaxTokens {
				t.Errorf("%d ids", n)
			}
		})
	}
	if got := encoder(t).IDs(""); !slices.Equal(got, []int32{30}) {
		t.Errorf("empty text: ids %v, want the lone start of a word", got)
	}
}

func TestReads128Tokens(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("of ", 127) + "of"
	if n := encoder(t).Tokens(text); n != 128 {
		t.Fatalf("%d tokens, want 128", n)
	}
	whole := encode(t, text)
	if more := encode(t, text+" something else altogether"); cosine(whole, more) < 0.99999 {
		t.Error("what follows the 128th token changes the vector")
	}
	if n := encoder(t).Tokens(text + " cat"); n != 129 {
		t.Errorf("%d tokens, want all 129 counted", n)
	}
	if less := encode(t, text[:len(text)-3]); cosine(whole, less) > 0.9999999 {
		t.Error("the 128th token isn't read")
	}
}

func TestHugeTextIsQuick(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("☃ab", 2<<20)
	start := time.Now()
	encode(t, huge)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("encoding %d MB took %v", len(huge)>>20, d)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	texts := []string{"Where is my parcel?", "Cats sleep.", strings.Repeat("a long one ", 30), ""}
	var want [][]float32
	for _, text := range texts {
		want = append(want, encode(t, text))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := encoder(t).EncodeAll(t.Context(), texts)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range got {
				if !slices.Equal(got[i], want[i]) {
					t.Errorf("text %d: another vector under load", i)
				}
			}
		})
	}
	wg.Wait()
}

func TestEncodingEndsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := encoder(t).EncodeAll(ctx, slices.Repeat([]string{"A sentence of a few words."}, 20_000))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline's", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("ended after %v", d)
	}
	if got, err := encoder(t).EncodeAll(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("no texts: %v, %v", got, err)
	}
}

func FuzzTokenize(f *testing.F) {
	for _, s := range []string{"", " ", "Meet at 7:30", "☃☃ snow", "\xff", "▁▁", "<s></s>", "ﬁ½①", strings.Repeat("ab", 2000), "\u0301\u200d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids := encoder(t).IDs(text)
		if len(ids) < 1 || len(ids) > builtin.MaxTokens {
			t.Fatalf("%d ids", len(ids))
		}
		for _, id := range ids {
			if id < 0 || id >= 8000 || id > 0 && id < 6 {
				t.Fatalf("id %d", id)
			}
		}
		if n := encoder(t).Tokens(text); len(text) < 1<<10 && n < len(ids) {
			t.Fatalf("%d tokens counted, %d read", n, len(ids))
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for name, text := range map[string]string{
		"8tokens":   "How do I reset my password?",
		"20tokens":  "Invoices are sent on the first working day of each month to the address given in your account.",
		"128tokens": strings.Repeat("of ", 127) + "of",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				encode(b, text)
			}
		})
	}
}
