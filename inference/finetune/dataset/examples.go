package dataset

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
)

// Example is a question and the answer to it.
type Example struct {
	Line   int    // where it stands; a conversation has several
	System string // the conversation's first system or developer message; may be empty
	Prompt string // the last user message before the answer
	Answer string // without white space around it
}

// Examples yields what a file teaches who answers single questions: for each
// assistant message with a text, whose weight isn't 0, the user message that it
// follows. Calls of tools aren't answers. The file should have passed Validate: an
// error in it, as *LineError, or one of r or ctx is yielded last.
func Examples(ctx context.Context, r io.Reader) iter.Seq2[Example, error] {
	return HiddenExamples(ctx, r, Policy{})
}

// HiddenExamples is Examples of a file as Redact writes it.
func HiddenExamples(ctx context.Context, r io.Reader, p Policy) iter.Seq2[Example, error] {
	return func(yield func(Example, error) bool) {
		enough, hide := errors.New("enough"), newHider(p)
		_, err := each(ctx, r, func(n int, ex *example) error {
			hide.example(ex)
			for _, e := range ex.examples(n) {
				if !yield(e, nil) {
					return enough
				}
			}
			return nil
		}, func(e *LineError) error { return e })
		if err != nil && !errors.Is(err, enough) {
			yield(Example{}, err)
		}
	}
}

func (ex *example) examples(line int) (list []Example) {
	e := Example{Line: line}
	system, asked := false, false
	for _, m := range ex.messages {
		switch {
		case (m.role == "system" || m.role == "developer") && !system:
			e.System, system = m.text, true
		case m.role == "user":
			e.Prompt, asked = m.text, true
		case m.learn && asked && !m.calls:
			if e.Answer = strings.TrimSpace(m.text); e.Answer != "" {
				list = append(list, e)
			}
		}
	}
	return list
}
