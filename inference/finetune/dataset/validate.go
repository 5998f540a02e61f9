package dataset

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// maxErrors is how many errors are kept; all are counted.
const maxErrors = 100

// Options of Validate.
type Options struct {
	Policy Policy
	// MinExamples is how many examples the file must have; 0: MinExamples.
	MinExamples int
	// Training has the prompts of the training file when this is the validation file:
	// those in both are warned of, since what was learnt by heart says nothing.
	Training *Prompts
}

// Summary is what Validate says of a file.
type Summary struct {
	Lines    int `json:"lines"`
	Examples int `json:"examples"` // good ones
	// Tokens are an estimate: one for each four bytes of what messages and tools say,
	// rounded up for each of them.
	Tokens int64 `json:"tokens"`
	// Errors are the first hundred, those of the file as a whole before those of its
	// lines; ErrorCount counts all.
	Errors     []LineError `json:"errors"`
	ErrorCount int         `json:"error_count"`
	Warnings   []Warning   `json:"warnings"`
	// Duplicates are examples that an earlier one equals, Answers the different answers,
	// of which Singles occur once.
	Duplicates int `json:"duplicates"`
	Answers    int `json:"answers"`
	Singles    int `json:"single_answers"`
	// Personal counts the values that are hidden in training, by entity.
	Personal map[string]int `json:"personal_data"`

	Prompts *Prompts `json:"-"`
}

// Valid reports whether the file can be trained with.
func (s *Summary) Valid() bool { return s.ErrorCount == 0 }

// Explain is one text with the first errors, for people; empty when there are none.
func (s *Summary) Explain(first int) string {
	if s.Valid() {
		return ""
	}
	var b strings.Builder
	if b.WriteString("The file has 1 error."); s.ErrorCount > 1 {
		b.Reset()
		fmt.Fprintf(&b, "The file has %d errors.", s.ErrorCount)
	}
	told := s.Errors[:min(max(first, 1), len(s.Errors))]
	for _, e := range told {
		if b.WriteByte(' '); e.Line > 0 {
			fmt.Fprintf(&b, "Line %d: ", e.Line)
		}
		fmt.Fprintf(&b, "%s (%s)", e.Message, e.Code)
	}
	if rest := s.ErrorCount - len(told); rest > 0 {
		fmt.Fprintf(&b, " And %d more.", rest)
	}
	return b.String()
}

func (s *Summary) add(e *LineError) {
	s.ErrorCount++
	if len(s.Errors) < maxErrors {
		s.Errors = append(s.Errors, *e)
	}
}

// file adds an error of the file as a whole.
func (s *Summary) file(code, format string, args ...any) {
	s.ErrorCount++
	s.Errors = slices.Insert(s.Errors, 0, *flaw(0, code, format, args...))
	s.Errors = s.Errors[:min(len(s.Errors), maxErrors)]
}

// Validate reads a file to its end and says what is wrong with it, and what its
// maker should know. The error is r's or ctx's alone. It keeps a line at a time and
// 24 bytes of each example.
func Validate(ctx context.Context, r io.Reader, o Options) (*Summary, error) {
	s := &Summary{Errors: []LineError{}, Warnings: []Warning{}, Personal: map[string]int{}}
	var (
		hide = newHider(o.Policy)
		at   = map[string][]int{} // entity: the first lines that have it
		all  records
	)
	c, err := each(ctx, r, func(n int, ex *example) error {
		s.Examples++
		s.Tokens += ex.tokens()
		found := hide.example(ex)
		if found != nil && o.Policy.Mode == modeBlock {
			s.add(flaw(n, CodePersonalData, "The example has personal data (%s), which this tenant lets through to no model.",
				strings.ToLower(strings.Join(slices.Sorted(maps.Keys(found)), ", "))))
			return nil
		}
		for entity, count := range found {
			s.Personal[entity] += count
			if len(at[entity]) < warnLines {
				at[entity] = append(at[entity], n)
			}
		}
		all.add(n, ex)
		return nil
	}, func(e *LineError) error {
		s.add(e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.Lines = c.lines
	least := o.MinExamples
	if least <= 0 {
		least = MinExamples
	}
	switch {
	case c.unread:
	case c.tried == 0:
		s.file(CodeEmptyFile, "The file has no examples.")
	case c.tried < least && c.tried == 1:
		s.file(CodeTooFew, "The file has 1 example. It must have at least %d.", least)
	case c.tried < least:
		s.file(CodeTooFew, "The file has %d examples. It must have at least %d.", c.tried, least)
	}
	s.Prompts = all.summarise(s, o.Training)
	for _, entity := range slices.Sorted(maps.Keys(at)) {
		s.warn(WarnPersonalData, s.Personal[entity], at[entity],
			"%s that look like %s: hidden in training, as they are hidden when the model is asked. Words that are no such thing can be allowed with pii_allow.",
			amount(s.Personal[entity], "value"), entity)
	}
	return s, nil
}

// tokens estimates what an example has, before anything of it is hidden.
func (ex *example) tokens() (n int64) {
	for _, m := range ex.messages {
		size := len(m.text)
		for _, x := range m.rest {
			if x.name != "weight" {
				size += len(x.value)
			}
		}
		n += quarter(size)
	}
	for _, x := range ex.rest {
		n += quarter(len(x.value))
	}
	return n
}

func quarter(bytes int) int64 { return int64((bytes + 3) / 4) }
