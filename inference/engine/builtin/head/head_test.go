package head_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"freehold/inference/engine/builtin/head"
)

// vector is a stand-in for the encoder's: what a text's words add up to, each a
// random direction of its own.
func vector(text string) []float32 {
	v := make([]float32, head.Dimensions)
	for _, w := range strings.Fields(strings.ToLower(text)) {
		seed := uint64(0)
		for _, b := range []byte(strings.Trim(w, "?.,!")) {
			seed = seed*131 + uint64(b)
		}
		r := rand.New(rand.NewPCG(seed, 1))
		for d := range v {
			v[d] += float32(r.NormFloat64()) / 40
		}
	}
	return v
}

func example(text, answer string) head.Example {
	text = head.Normalize(text)
	return head.Example{Text: text, Vector: vector(text), Answer: answer}
}

// shop is a small set of examples: four answers, three prompts each.
func shop() []head.Example {
	var out []head.Example
	for answer, prompts := range shopAnswers {
		for _, p := range prompts {
			out = append(out, example(p, answer))
		}
	}
	slices.SortFunc(out, func(a, b head.Example) int { return strings.Compare(a.Text, b.Text) })
	return out
}

var shopAnswers = map[string][]string{
	"We open at nine.":         {"When do you open?", "What are your opening hours?", "Opening time in the morning?"},
	"Returns are free.":        {"Can I send a jacket back?", "How do I return shoes?", "I want to return my order"},
	"We ship with the post.":   {"Who delivers my parcel?", "Which courier delivers?", "How is the parcel delivered?"},
	"Write to hello@shop.test": {"How do I contact you?", "What is your email?", "I need to write to somebody"},
}

func fit(t testing.TB, examples, validation []head.Example, o head.Options) (*head.Head, head.Report) {
	t.Helper()
	h, report, err := head.Fit(t.Context(), examples, validation, o)
	if err != nil {
		t.Fatal(err)
	}
	return h, report
}

func written(t testing.TB, h *head.Head) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := h.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFitAndPredict(t *testing.T) {
	t.Parallel()
	h, report := fit(t, shop(), nil, head.Options{})
	if report.Examples != 12 || report.Classes != 4 || report.HeldOut != 12 || report.TrainAccuracy < 0.99 {
		t.Errorf("report %+v", report)
	}
	for text, want := range map[string]string{
		"how do I return a jacket": "Returns are free.",
		"which opening hours":      "We open at nine.",
		"courier of my parcel":     "We ship with the post.",
	} {
		v := h.Predict(head.Normalize(text), vector(text))
		if v.Answer != want || v.Label != want || v.Scores[want] <= 0.25 {
			t.Errorf("%q: %+v, want %q", text, v, want)
		}
	}
	if v := h.Predict("xylophone zebra quartz", vector("xylophone zebra quartz")); !v.Abstained {
		t.Errorf("a stranger was answered: %+v", v)
	}
	if h.Bytes() < 4*head.Dimensions*16 {
		t.Errorf("%d bytes in memory", h.Bytes())
	}
}

func TestFitIsDeterministic(t *testing.T) {
	t.Parallel()
	one, _ := fit(t, shop(), nil, head.Options{Seed: 3})
	two, _ := fit(t, shop(), nil, head.Options{Seed: 3})
	other, _ := fit(t, shop(), nil, head.Options{Seed: 4})
	if !bytes.Equal(written(t, one), written(t, two)) {
		t.Error("equal examples and seeds made different heads")
	}
	if bytes.Equal(written(t, one), written(t, other)) {
		t.Error("another seed made the same head")
	}
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	answers := map[string][]float32{"We open at nine.": vector("We open at nine.")}
	h, _ := fit(t, shop(), nil, head.Options{Answers: answers})
	raw := written(t, h)
	back, err := head.Read(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written(t, back), raw) {
		t.Error("what was read is written differently")
	}
	for _, e := range shop() {
		a, b := h.Predict(e.Text, e.Vector), back.Predict(e.Text, e.Vector)
		if a.Answer != b.Answer || a.Confidence != b.Confidence || a.Abstained != b.Abstained {
			t.Fatalf("%q: %+v before, %+v after", e.Text, a, b)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	h, _ := fit(t, shop(), nil, head.Options{})
	good := written(t, h)
	change := func(old, new string) []byte {
		if len(old) != len(new) || !bytes.Contains(good, []byte(old)) {
			t.Fatalf("can't change %q to %q", old, new)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	for name, raw := range map[string][]byte{
		"nothing":          {},
		"a long header":    append([]byte{255, 255, 255, 255, 255, 255, 255, 127}, good[8:]...),
		"no JSON":          append(slices.Clone(good[:8]), bytes.Repeat([]byte("x"), len(good)-8)...),
		"cut":              good[:len(good)-1],
		"another format":   change(`"format":"1"`, `"format":"2"`),
		"another shape":    change(`"shape":[512,4]`, `"shape":[4,512]`),
		"a negative shape": change(`"shape":[512,4]`, `"shape":[-12,4]`),
		"another type":     change(`"dtype":"I32"`, `"dtype":"F32"`),
		"class of no answer": func() []byte {
			raw := slices.Clone(good)
			length := int64(binary.LittleEndian.Uint64(raw))
			var header map[string]struct {
				Offsets []int64 `json:"data_offsets"`
			}
			_ = json.Unmarshal(raw[8:8+length], &header)
			raw[8+length+header["examples.class"].Offsets[0]] = 200
			return raw
		}(),
	} {
		if _, err := head.Read(bytes.NewReader(raw), int64(len(raw))); !errors.Is(err, head.ErrArtifact) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := head.Read(bytes.NewReader(good), int64(len(good))+1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("shorter than said: %v", err)
	}
	if _, err := head.Read(nil, head.MaxBytes+1); !errors.Is(err, head.ErrArtifact) {
		t.Errorf("too large: %v", err)
	}
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"mail [EMAIL_1_k3f9m2p0q] please": "mail email please",
		"mail [EMAIL]  please\n":          "mail email please",
		"[IBAN_12_abcdefghi][CUSTOM]":     "ibancustom",
		"an [aside] and [A]":              "an [aside] and [A]",
		strings.Repeat("ä", 5000):         strings.Repeat("ä", 4096),
		"":                                "",
	} {
		if got := head.Normalize(text); got != want {
			t.Errorf("%.40q: %.40q, want %.40q", text, got, want)
		}
	}
}

func TestFitRefuses(t *testing.T) {
	t.Parallel()
	fits := func(e []head.Example) error {
		_, _, err := head.Fit(t.Context(), e, nil, head.Options{})
		return err
	}
	if err := fits(nil); !errors.Is(err, head.ErrNoExamples) {
		t.Errorf("none: %v", err)
	}
	if err := fits([]head.Example{{Text: "a", Answer: "b", Vector: make([]float32, 3)}}); !errors.Is(err, head.ErrVector) {
		t.Errorf("short vector: %v", err)
	}
	many := make([]head.Example, head.MaxClasses+1)
	for i := range many {
		many[i] = head.Example{Vector: make([]float32, head.Dimensions), Answer: strings.Repeat("x", i%50) + string(rune(i+1000))}
	}
	if err := fits(many); !errors.Is(err, head.ErrTooManyClasses) {
		t.Errorf("many classes: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := head.Fit(ctx, shop(), nil, head.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Each of these shapes of data must make a head that works.
func TestFitShapes(t *testing.T) {
	t.Parallel()
	words := strings.Fields("apple river stone cloud tiger lemon candle mirror planet violin harbor garden")
	shape := func(classes, each int) []head.Example {
		var out []head.Example
		for k := range classes {
			for j := range each {
				text := words[k%len(words)] + " " + words[(k/len(words)+3)%len(words)] + " " + words[(j+k)%len(words)] + " " + string(rune('a'+j))
				out = append(out, example(text, "answer "+string(rune('A'+k))))
			}
		}
		return out
	}
	for name, examples := range map[string][]head.Example{
		"one":               shape(1, 1),
		"one class":         shape(1, 10),
		"two classes":       shape(2, 5),
		"answers seen once": shape(20, 1),
		"empty texts":       {example("", "a"), example("", "b"), example("x", "a")},
	} {
		h, report := fit(t, examples, nil, head.Options{})
		for _, e := range examples {
			v := h.Predict(e.Text, e.Vector)
			if v.Confidence < 0 || v.Confidence > 1 {
				t.Errorf("%s: confidence %v", name, v.Confidence)
			}
			if e.Text != "" && v.Answer != e.Answer {
				t.Errorf("%s: its own example %q is answered %q, not %q", name, e.Text, v.Answer, e.Answer)
			}
		}
		if report.Threshold <= 0 || report.Threshold >= 1 {
			t.Errorf("%s: threshold %v", name, report.Threshold)
		}
	}
}

func TestStep(t *testing.T) {
	t.Parallel()
	var steps []head.Progress
	fit(t, shop(), shop()[:4], head.Options{Epochs: 5, Step: func(p head.Progress) error {
		steps = append(steps, p)
		return nil
	}})
	if len(steps) != 5 || steps[4].Step != 5 || steps[4].TrainLoss >= steps[0].TrainLoss || steps[4].ValidLoss >= steps[0].ValidLoss {
		t.Errorf("steps %+v", steps)
	}
	stop := errors.New("stop")
	if _, _, err := head.Fit(t.Context(), shop(), nil, head.Options{Step: func(head.Progress) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("an error of Step became %v", err)
	}
}

func FuzzRead(f *testing.F) {
	h, _, err := head.Fit(context.Background(), shop()[:4], nil, head.Options{Epochs: 1})
	if err != nil {
		f.Fatal(err)
	}
	good := written(f, h)
	f.Add(good)
	f.Add(good[:200])
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := head.Read(bytes.NewReader(raw), int64(len(raw)))
		if err == nil {
			h.Predict("a question", vector("a question"))
		}
	})
}

// Long texts whose vectors say nothing are told apart by their words.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	words := map[string][]string{
		"billing":   strings.Fields("invoice payment overdue account balance statement total ledger quarter sum euro transfer"),
		"technical": strings.Fields("server crash kernel driver firmware reboot stack trace memory cable socket version"),
	}
	filler := strings.Fields("hello the team we have been writing about this matter since last week and would like to know more thanks regards")
	random := rand.New(rand.NewPCG(1, 1))
	var all []head.Example
	for i := range 120 {
		label := []string{"billing", "technical"}[i%2]
		var text []string
		for range 80 {
			from := filler
			if random.IntN(8) == 0 {
				from = words[label]
			}
			text = append(text, from[random.IntN(len(from))])
		}
		noise := make([]float32, head.Dimensions)
		for d := range noise {
			noise[d] = float32(random.NormFloat64()) / 23
		}
		all = append(all, head.Example{Text: strings.Join(text, " "), Vector: noise, Answer: label})
	}
	h, report := fit(t, all[:80], nil, head.Options{Epochs: 5})
	right := 0
	for _, e := range all[80:] {
		if h.Predict(e.Text, e.Vector).Answer == e.Answer {
			right++
		}
	}
	if right < 36 || report.Accuracy < 0.9 {
		t.Errorf("%d of 40 right, %.2f held out", right, report.Accuracy)
	}
}
