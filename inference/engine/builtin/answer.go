package builtin

import (
	"context"
	"slices"
	"strings"

	"freehold/inference/engine"
)

// NoAnswer is what the engine says when no sentence is similar enough.
const NoAnswer = "None of the sentences in this conversation answers that. " +
	"I am a small built-in model: I can only quote what the conversation contains, and I know nothing else."

// Bounds on a conversation; beyond them it is refused.
const (
	MaxSentences    = 2000
	MaxPromptTokens = 32_000
	maxPromptBytes  = 8 * MaxPromptTokens // checked first, because counting tokens takes time
)

// maxQuestionWords parts a message that is a question with its circumstances
// from a text with a question in it.
const maxQuestionWords = 40

// Turn is one message of a conversation.
type Turn struct{ Role, Text string }

// Answer is what a conversation itself says to its last user message: one or two
// of its sentences, in its order, or none.
type Answer struct{ Sentences []string }

// Found says whether there is an answer.
func (a Answer) Found() bool { return len(a.Sentences) > 0 }

// Text is the answer as it is said: the sentences, or NoAnswer.
func (a Answer) Text() string {
	if !a.Found() {
		return NoAnswer
	}
	return strings.Join(a.Sentences, " ")
}

// Answer looks for the answer to the last user message in the sentences of all
// other messages; where these have none, in the last message's own sentences
// before its question. Vectors of sentences are kept for further calls with the
// same scope, and not kept when scope is empty. Errors are *engine.Error.
func (e *Engine) Answer(ctx context.Context, scope string, turns []Turn) (Answer, error) {
	last := -1
	for i, t := range turns {
		if t.Role == "user" {
			last = i
		}
	}
	if last < 0 || strings.TrimSpace(turns[last].Text) == "" {
		return Answer{}, refuse("messages", "the conversation has no user message with a text to answer")
	}
	questions, rest := parseQuestion(turns[last].Text)
	var sentences []sentence
	for i, t := range turns {
		if i != last {
			sentences = append(sentences, split(t.Text)...)
		}
	}
	if len(sentences) == 0 {
		sentences = rest
	}
	sentences = quotable(sentences)
	if len(sentences) > MaxSentences {
		return Answer{}, refuse("messages", "the conversation has more than 2000 sentences, the most that this model reads")
	}
	if len(sentences) == 0 {
		return Answer{}, nil
	}
	r, err := e.rankerFor(ctx, scope, sentences)
	if err != nil {
		return Answer{}, stopped(err)
	}
	var chosen []int
	for _, q := range questions {
		v, err := e.encoder.Encode(ctx, q)
		if err != nil {
			return Answer{}, stopped(err)
		}
		chosen = append(chosen, choose(r.rank(q, v), len(questions) == 1)...)
	}
	slices.Sort(chosen)
	var a Answer
	for _, at := range slices.Compact(chosen) {
		a.Sentences = append(a.Sentences, sentences[at].text)
	}
	return a, nil
}

// choose takes the best sentence, if it is good enough, and the second as well
// if it may and is hardly worse.
func choose(ranked []scored, two bool) []int {
	if ranked[0].score < threshold {
		return nil
	}
	chosen := []int{ranked[0].at}
	if two && len(ranked) > 1 && ranked[1].score >= max(threshold, secondShare*ranked[0].score) {
		chosen = append(chosen, ranked[1].at)
	}
	return chosen
}

// parseQuestion returns what a user message asks, one or two questions, and its
// sentences that are no question.
func parseQuestion(text string) (questions []string, rest []sentence) {
	var all []string
	for _, line := range unwrap(text) {
		if line != "" {
			all = append(all, cut(line)...)
		}
	}
	for _, s := range all {
		if isQuestion(s) {
			questions = append(questions, dialogue.ReplaceAllString(s, ""))
		}
	}
	rest = split(text)
	words := len(strings.Fields(text))
	switch {
	case len(questions) > 1:
		questions = questions[len(questions)-2:]
	case words <= maxQuestionWords && len(all) > 0:
		// The circumstances belong to the question: "My rose died. What can I do?"
		questions = []string{strings.Join(all, " ")}
	case len(questions) == 0 && len(all) > 0:
		questions = all[len(all)-1:]
	}
	if n := len(rest); n > 0 && len(all) > 0 && !isQuestion(all[len(all)-1]) {
		rest = rest[:n-1] // without a question mark, the last sentence is what is asked
	}
	return questions, rest
}

// quotable drops repetitions and what this engine itself said for want of an answer.
func quotable(sentences []sentence) []sentence {
	seen := map[string]bool{}
	for _, s := range split(NoAnswer + "\n" + NoTunedAnswer) {
		seen[s.text] = true
	}
	var out []sentence
	for _, s := range sentences {
		if !seen[s.text] {
			seen[s.text] = true
			out = append(out, s)
		}
	}
	return out
}

func refuse(param, message string) error {
	return &engine.Error{Kind: engine.BadRequest, Param: param, Message: message}
}

func unsupported(param, message string) error {
	return &engine.Error{Kind: engine.Unsupported, Param: param, Message: message}
}

// stopped wraps the error of a context that ended.
func stopped(err error) error {
	kind := engine.KindOf(err) // Timeout for a deadline
	return &engine.Error{Kind: kind, Message: "the request ended before its answer", Err: err}
}
