package pii

import "testing"

func TestMaybeLabel(t *testing.T) {
	t.Parallel()
	for word := range secretLabels {
		if !maybeLabel(word) {
			t.Errorf("the quick look passes %q over", word)
		}
	}
}
