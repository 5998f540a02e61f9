package inference

import (
	"math"
	"math/big"

	"freehold/catalog"
	"freehold/inference/engine"
)

// cost is what a request costs, in nano-units: tokens at the price of a million,
// rounded half up, once.
func cost(m catalog.Model, u engine.Usage) int64 {
	const million = 1_000_000
	sum := new(big.Int)
	for _, part := range []struct{ tokens, price int64 }{{u.PromptTokens, m.InputNano()}, {u.CompletionTokens, m.OutputNano()}} {
		sum.Add(sum, new(big.Int).Mul(big.NewInt(max(part.tokens, 0)), big.NewInt(part.price)))
	}
	sum.Add(sum, big.NewInt(million/2)).Quo(sum, big.NewInt(million))
	if !sum.IsInt64() {
		return math.MaxInt64
	}
	return sum.Int64()
}
