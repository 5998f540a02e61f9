package inference_test

import (
	"testing"

	"freehold/inference"
)

// A prediction that no choice takes is charged for in each of them.
func TestBound_prediction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.hears("hello")
	b.call.Config.MonthlyTokenLimit = 1000
	left := func(n string) (tokens int64) {
		t.Helper()
		b.call.Told = func(st inference.Standing) { tokens = st.TokensLeft }
		_, err := b.Chat(t.Context(), b.call, b.parse(`{"model":"talk","messages":[{"role":"user","content":"hi"}],"max_tokens":1,
			"n":`+n+`,"prediction":{"type":"content","content":"0123456789"}}`))
		if err != nil {
			t.Fatal(err)
		}
		return tokens
	}
	one, three := left("1"), left("3")
	const prediction = int64(len(`prediction{"type":"content","content":"0123456789"}`))
	// The first used 5; two choices more are two predictions and two tokens more.
	if took := one - three; took != 5+2*prediction+2 {
		t.Errorf("three choices took %d more, want %d", took, 5+2*prediction+2)
	}
}
