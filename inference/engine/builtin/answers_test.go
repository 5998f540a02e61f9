package builtin_test

import (
	"os"
	"strings"
	"testing"

	"freehold/inference/engine/builtin"
)

func newEngine(t testing.TB) *builtin.Engine {
	t.Helper()
	e, err := builtin.New()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// company is a block of testdata/answers.txt, which says what its lines mean.
type company struct {
	name, facts string
	questions   []question
}

type question struct {
	text  string
	right []string // beginnings of the right sentences; none: out of scope
}

func companies(t testing.TB) []company {
	t.Helper()
	b, err := os.ReadFile("testdata/answers.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []company
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "== "); ok {
			all = append(all, company{name: name})
			continue
		}
		if len(all) == 0 {
			continue
		}
		c := &all[len(all)-1]
		if q, ok := strings.CutPrefix(line, "? "); ok {
			parts := strings.Split(q, " | ")
			c.questions = append(c.questions, question{parts[0], parts[1:]})
		} else if q, ok := strings.CutPrefix(line, "! "); ok {
			c.questions = append(c.questions, question{text: q})
		} else {
			c.facts += line + "\n"
		}
	}
	return all
}

// tally counts how one half of the corpus was answered.
type tally struct{ in, right, wrong, silent, extra, out, refused int }

// evaluate asks every question of the corpus: "dev" is what the weights were
// fitted on, "test" was held out.
func evaluate(t testing.TB) map[string]*tally {
	t.Helper()
	sums := map[string]*tally{"dev": {}, "test": {}}
	e := newEngine(t)
	for _, c := range companies(t) {
		set := "test"
		if strings.HasSuffix(c.name, "(dev)") {
			set = "dev"
		}
		n := sums[set]
		sentences := builtin.Sentences(c.facts)
		for _, q := range c.questions {
			a, err := e.Answer(t.Context(), c.name, []builtin.Turn{{Role: "system", Text: c.facts}, {Role: "user", Text: q.text}})
			if err != nil {
				t.Fatal(err)
			}
			hits := 0
			for _, s := range a.Sentences {
				if begins(s, q.right) {
					hits++
				}
			}
			switch {
			case len(q.right) == 0:
				n.out++
				if !a.Found() {
					n.refused++
				}
				continue
			case !anyBegins(sentences, q.right):
				t.Fatalf("%s: no sentence answers %q", c.name, q.text)
			case hits > 0:
				n.right++
				n.extra += len(a.Sentences) - hits
			case a.Found():
				n.wrong++
			default:
				n.silent++
			}
			n.in++
		}
	}
	return sums
}

// TestAnswersEvaluation holds what the answers are worth. The floors stand a
// little below the figures reached, which the model card gives.
func TestAnswersEvaluation(t *testing.T) {
	t.Parallel()
	sums := evaluate(t)
	for set, n := range sums {
		t.Logf("%s: %d questions in scope: %d answered (%d with a needless sentence), %d wrong, %d not answered; %d of %d out of scope refused",
			set, n.in, n.right, n.extra, n.wrong, n.silent, n.refused, n.out)
	}
	floor := func(set, what string, got, of int, least float64) {
		if float64(got) < least*float64(of) {
			t.Errorf("%s: %s %d of %d, want at least %.0f %%", set, what, got, of, 100*least)
		}
	}
	dev, test := sums["dev"], sums["test"]
	if dev.in+test.in < 60 || dev.out+test.out < 30 {
		t.Errorf("%d and %d questions are too few", dev.in+test.in, dev.out+test.out)
	}
	floor("dev", "answered", dev.right, dev.in, 0.80)
	floor("dev", "refused", dev.refused, dev.out, 0.85)
	floor("test", "answered", test.right, test.in, 0.50)
	floor("test", "not wrong", test.in-test.wrong, test.in, 0.75)
	floor("test", "refused", test.refused, test.out, 0.80)
}

func begins(s string, starts []string) bool {
	for _, start := range starts {
		if strings.HasPrefix(s, start) {
			return true
		}
	}
	return false
}

func anyBegins(sentences, starts []string) bool {
	for _, s := range sentences {
		if begins(s, starts) {
			return true
		}
	}
	return false
}

const tenFacts = `Gift cards never expire.
Passwords can be reset from the login page.
We accept Visa, Mastercard and bank transfer.
Our office dog is called Biscuit.
The founder keeps three goats.
Shipping is free above 50 euros.
Our warehouse stands in Rotterdam.
Returns are accepted within 41 days.
Support is open on weekdays from nine to five.
Invoices are sent on the first of each month.`

func ask(t *testing.T, e *builtin.Engine, turns ...string) builtin.Answer {
	t.Helper()
	var conversation []builtin.Turn
	for _, turn := range turns {
		role, text, _ := strings.Cut(turn, ": ")
		conversation = append(conversation, builtin.Turn{Role: role, Text: text})
	}
	a, err := e.Answer(t.Context(), "ask", conversation)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTenFacts(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for q, want := range map[string]string{
		"Does a gift card run out?":                  "Gift cards never expire.",
		"I forgot my password":                       "Passwords can be reset from the login page.",
		"Can I pay by credit card?":                  "We accept Visa, Mastercard and bank transfer.",
		"What is the name of the dog?":               "Our office dog is called Biscuit.",
		"What animals does the founder have?":        "The founder keeps three goats.",
		"How much must I order for free delivery?":   "Shipping is free above 50 euros.",
		"Where is the warehouse?":                    "Our warehouse stands in Rotterdam.",
		"How long do I have to send something back?": "Returns are accepted within 41 days.",
		"When can I reach support?":                  "Support is open on weekdays from nine to five.",
		"When do I get my bill?":                     "Invoices are sent on the first of each month.",
		"When do you send invoices?":                 "Invoices are sent on the first of each month.",
		"How do I reset my password?":                "Passwords can be reset from the login page.",
		"What is the capital of France?":             builtin.NoAnswer,
		"Who won the world cup?":                     builtin.NoAnswer,
		"hello":                                      builtin.NoAnswer,
		"Write a poem about autumn.":                 builtin.NoAnswer,
	} {
		if got := ask(t, e, "system: "+tenFacts, "user: "+q).Text(); got != want {
			t.Errorf("%s\n got %s\nwant %s", q, got, want)
		}
	}
}

func TestConversations(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for name, c := range map[string]struct {
		turns []string
		want  string
	}{
		"one fact": {[]string{"system: Our warehouse stands in Rotterdam.", "user: Where is your warehouse?"}, "Our warehouse stands in Rotterdam."},
		"what the user said": {
			[]string{"system: " + tenFacts, "user: My order number is 7741.", "assistant: Thank you.", "user: What is my order number?"},
			"My order number is 7741.",
		},
		"faq": {
			[]string{"system: Q: How do I get an invoice?\nA: Open Billing and press Download.\nQ: Can I change my plan?\nA: Yes, at any time.", "user: Where are invoices?"},
			"Open Billing and press Download.",
		},
		"its own refusal is no answer": {
			[]string{"system: " + tenFacts, "user: Who are you?", "assistant: " + builtin.NoAnswer, "user: What can a small model quote?"},
			builtin.NoAnswer,
		},
		"repeated facts count once": {
			[]string{"system: " + tenFacts, "user: Where is the warehouse?", "assistant: Our warehouse stands in Rotterdam.", "user: Where is the warehouse?"},
			"Our warehouse stands in Rotterdam.",
		},
		"two questions": {
			[]string{"system: " + tenFacts, "user: Where is the warehouse? And what is the dog called?"},
			"Our office dog is called Biscuit. Our warehouse stands in Rotterdam.",
		},
		"context in the message itself": {
			[]string{"user: " + tenFacts + "\n\nWhere is the warehouse?"},
			"Our warehouse stands in Rotterdam.",
		},
		"no context": {[]string{"user: Where is the warehouse?"}, builtin.NoAnswer},
		"instructions are no facts": {
			[]string{"system: You are a helpful assistant. Answer in one sentence.", "user: Are you a helpful assistant?"},
			builtin.NoAnswer,
		},
	} {
		if got := ask(t, e, c.turns...).Text(); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func TestSentences(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"One. Two! Three… Four":                             "One.|Two!|Three… Four",
		"Dr. Smith lives at St. James St. 4. He is in.":     "Dr. Smith lives at St. James St. 4.|He is in.",
		"It costs 3.50 euros, e.g. in Mr. B. Jones's shop.": "It costs 3.50 euros, e.g. in Mr. B. Jones's shop.",
		"Open 8 a.m. to 5 p.m. Closed on Sunday.":           "Open 8 a.m. to 5 p.m.|Closed on Sunday.",
		"See No. 5 on Jan. 3. No. Never.":                   "See No. 5 on Jan. 3.|No.|Never.",
		"He said \"Stop.\" Then he left.":                   "He said \"Stop.\"|Then he left.",
		"- First item\n- Second item\n* Third\n4. Fourth":   "First item|Second item|Third|Fourth",
		"This line is wrapped\nin its middle. The\nend.":    "This line is wrapped in its middle.|The end.",
		"# Title\n\nA fact.\n\nPrices:\nA lamp costs 5.":    "A fact.|A lamp costs 5.",
		"Who are we? A bank.":                               "A bank.",
		"You are a kind assistant. You are owed 30 days.":   "You are owed 30 days.",
		"  \n\t\n": "",
		"Version 2.0 is out. See https://example.com/a.b?c=d": "Version 2.0 is out.|See https://example.com/a.b?c=d",
		"Opening hours: 9-17.\r\nPhone: +31 10 555":           "Opening hours: 9-17.|Phone: +31 10 555",
	} {
		if got := strings.Join(builtin.Sentences(text), "|"); got != want {
			t.Errorf("%q:\n got %s\nwant %s", text, got, want)
		}
	}
}

func FuzzSentences(f *testing.F) {
	for _, s := range []string{tenFacts, "Q: a?\nA: b.", "...", "a. B", "# x\n:", "\"?\"", "1) ", "\xff. \xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range builtin.Sentences(text) {
			if s == "" || s != strings.TrimSpace(s) {
				t.Fatalf("sentence %q", s)
			}
		}
	})
}

// The model card's figures.
func BenchmarkEvaluation(b *testing.B) {
	var sums map[string]*tally
	for b.Loop() {
		sums = evaluate(b)
	}
	for set, n := range sums {
		for what, count := range map[string]int{
			"in": n.in, "right": n.right, "wrong": n.wrong, "silent": n.silent, "out": n.out, "refused": n.refused,
		} {
			b.ReportMetric(float64(count), set+"-"+what)
		}
	}
}
