package pii_test

import (
	"testing"

	"freehold/inference/pii"
	"freehold/inference/pii/piitest"
	"freehold/migrations/pgtest"
)

// goals are the recalls that the corpus must show, by entity; precision is
// minPrecision for each.
var goals = map[pii.Entity]float64{
	pii.Card: 1, pii.IBAN: 1, pii.SSN: 1, pii.Email: 1, pii.IP: 1, pii.Phone: 0.98,
	pii.MAC: 0.98, pii.URL: 0.98, pii.JWT: 0.98, pii.Key: 0.98,
}

const minPrecision = 0.95

func TestCorpus(t *testing.T) {
	t.Parallel()
	n := 2000
	if pgtest.Long() {
		n = 200000
	}
	shown := 0
	scores := piitest.Evaluate(piitest.Corpus(1, n), pii.New(pii.Options{}).Find, func(text string, m pii.Match, lost bool) {
		if shown++; shown > 60 {
			return
		}
		verdict := "found wrongly"
		if lost {
			verdict = "lost"
		}
		t.Logf("%s: %s %q in %q", verdict, m.Entity, text[m.Start:m.End], text)
	})
	for entity, recall := range goals {
		score := scores[entity]
		t.Logf("%-6s %5d recall %.4f precision %.4f", entity, score.Gold, score.Recall(), score.Precision())
		if score.Gold < n/200 {
			t.Errorf("%s: only %d in the corpus", entity, score.Gold)
		}
		if score.Recall() < recall || score.Precision() < minPrecision {
			t.Errorf("%s: recall %.4f, want %.2f; precision %.4f, want %.2f", entity, score.Recall(), recall, score.Precision(), minPrecision)
		}
	}
}
