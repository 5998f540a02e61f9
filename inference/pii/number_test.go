package pii_test

import (
	"testing"

	"freehold/inference/pii"
)

// Whole numbers in a document are looked at as texts are, under their keys, and stay
// numbers otherwise.
func TestNumbersInJSON(t *testing.T) {
	t.Parallel()
	scanner := pii.New(pii.Options{})
	for doc, want := range map[string]string{
		`{"card": 4111111111111111, "n": 7}`:           `{"card": "[CARD]", "n": 7}`,
		`[4111111111111111]`:                           `["[CARD]"]`,
		`{"a":"{\"card\":4111111111111111}"}`:          `{"a":"{\"card\":\"[CARD]\"}"}`,
		`{"phone":2025550123}`:                         `{"phone":"[PHONE]"}`,
		`{"ssn":536221234}`:                            `{"ssn":"[SSN]"}`,
		`4111111111111111`:                             `4111111111111111`,
		`{"created":1732345678,"ms":1732345678901}`:    `{"created":1732345678,"ms":1732345678901}`,
		`{"maximum":9007199254740991,"at":4294967295}`: `{"maximum":9007199254740991,"at":4294967295}`,
		`[0.4111111111111111,-4111111111111111,41e99]`: `[0.4111111111111111,-4111111111111111,41e99]`,
		`{"id":4111111111111112,"order":123456789012}`: `{"id":4111111111111112,"order":123456789012}`,
	} {
		if got := string(scanner.TagJSON([]byte(doc))); got != want {
			t.Errorf("%s became %s, want %s", doc, got, want)
		}
	}
	s := scanner.Session()
	redacted := s.RedactJSON([]byte(`{"card":4111111111111111}`))
	if got := string(s.RestoreJSON(redacted)); got != `{"card":"4111111111111111"}` {
		t.Errorf("restored %s as %s", redacted, got)
	}
}
