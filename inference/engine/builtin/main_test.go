package builtin_test

import (
	"testing"

	"go.uber.org/goleak"

	"freehold/inference/engine/builtin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func encoder(t testing.TB) *builtin.Encoder {
	t.Helper()
	e, err := builtin.Load()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func encode(t testing.TB, text string) []float32 {
	t.Helper()
	v, err := encoder(t).Encode(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func cosine(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
