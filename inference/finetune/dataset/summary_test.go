package dataset_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"freehold/inference/finetune/dataset"
)

func ask(question, answer string) string {
	return chat(`{"role":"system","content":"s"}`, `{"role":"user","content":"`+question+`"}`, `{"role":"assistant","content":"`+answer+`"}`)
}

func warning(s *dataset.Summary, code string) string {
	for _, w := range s.Warnings {
		if w.Code == code {
			return fmt.Sprint(w.Count, " ", w.Lines)
		}
	}
	return ""
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	training := validate(t, file(
		ask("Where is my order?", "Track it."),
		ask("where is  MY order", "Track it."), // duplicate
		ask("Where is my order?!", "Ask us."),  // conflict
		ask("Can I pay by card?", "Yes."),
		ask("Cards?", "Yes."),
		ask("???", "Yes."),
		ask("!!!", "Yes."), // no words: not the same
		ask("Größe", "Small."),
		ask("GRÖSSE", "Small."),
		ask("gröSSe.", "Small."),
	), dataset.Options{})
	if !training.Valid() || training.Examples != 10 || training.Duplicates != 2 || training.Answers != 4 || training.Singles != 1 || training.Prompts.Len() != 7 {
		t.Errorf("%+v", training)
	}
	for code, want := range map[string]string{
		dataset.WarnDuplicates: "2 [2 10]", dataset.WarnConflicts: "1 [3]", dataset.WarnSingles: "1 [3]", dataset.WarnLeakage: "",
	} {
		if got := warning(training, code); got != want {
			t.Errorf("%s: %q, want %q", code, got, want)
		}
	}
	held := validate(t, file(ask("Is it far?", "No."), ask("WHERE is my order", "Elsewhere.")), dataset.Options{MinExamples: 1, Training: training.Prompts})
	if got := warning(held, dataset.WarnLeakage); got != "1 [2]" {
		t.Error(got)
	}
	if s := validate(t, among(good(77)), dataset.Options{}); len(s.Warnings) != 0 { // each answer occurs once: nothing odd
		t.Errorf("%+v", s.Warnings)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s := validate(t, ask("12345", "1234"), dataset.Options{MinExamples: 1})
	if s.Tokens != 1+2+1 {
		t.Error(s.Tokens)
	}
}

func TestPersonalData(t *testing.T) {
	t.Parallel()
	text := file(
		ask("I am ann@example.com, and ben@example.com is my brother", "Fine."),
		ask("Call +44 20 7946 0958", "We will, at +44 20 7946 0958."),
		ask("Tell Acme", "No."),
		ask("Mail help@ours.example", "Yes."),
	)
	detect := dataset.Policy{Detect: true, Mode: "restore", Allow: []string{"help@ours.example"}, Deny: []string{"acme"}}
	s := validate(t, text, dataset.Options{MinExamples: 1, Policy: detect})
	want := map[string]int{"EMAIL": 2, "PHONE": 2, "CUSTOM": 1}
	if !s.Valid() || !reflect.DeepEqual(s.Personal, want) {
		t.Errorf("%v %v", s.Personal, s.Errors)
	}
	if w := s.Warnings[len(s.Warnings)-1]; w.Code != dataset.WarnPersonalData || fmt.Sprint(w.Lines) != "[2]" || !strings.Contains(w.Message, "PHONE") || !strings.Contains(w.Message, "pii_allow") {
		t.Errorf("%+v", w)
	}
	if got := detect.Describe(s.Personal); !reflect.DeepEqual(got, map[string]any{
		"pii_detection": true, "pii_mode": "restore", "pii_hidden": want, "pii_allow": 1, "pii_deny": 1,
	}) {
		t.Error(got)
	}

	block := detect
	block.Mode = "block"
	s = validate(t, text, dataset.Options{MinExamples: 1, Policy: block})
	if s.ErrorCount != 3 || s.Errors[0].Code != dataset.CodePersonalData || s.Errors[0].Line != 1 || !strings.Contains(s.Errors[0].Message, "(email)") {
		t.Errorf("%+v", s.Errors)
	}
	off := dataset.Policy{Mode: "block", Deny: []string{"acme"}}
	if s = validate(t, text, dataset.Options{MinExamples: 1, Policy: off}); !s.Valid() || len(s.Personal) != 0 {
		t.Errorf("%+v", s)
	}
	if got := off.Describe(nil); !reflect.DeepEqual(got, map[string]any{"pii_detection": false}) {
		t.Error(got)
	}
	// What was hidden is the same for all that is compared afterwards.
	s = validate(t, file(ask("I am ann@example.com", "Fine."), ask("I am ben@example.com", "Fine.")), dataset.Options{MinExamples: 1, Policy: detect})
	if s.Duplicates != 1 {
		t.Errorf("%+v", s)
	}
}
