package catalog

import (
	"cmp"
	"slices"
)

// fairParts divides a budget by max-min fairness: nobody gets more than it
// demands while another gets less than it demands and less than that. What
// nobody demands is divided evenly. Everybody gets at least one as long as there
// are enough; the parts' sum is the budget, or nothing when that is below one.
// Which of equals gets the odd one depends on their order alone.
func fairParts(budget int, demands []int) []int {
	parts := make([]int, len(demands))
	if len(demands) == 0 {
		return parts
	}
	order := make([]int, len(demands))
	for i := range order {
		order[i] = i
	}
	wish := func(i int) int { return max(1, demands[i]) }
	// The least demanding first: what they leave of an even part is the others'.
	// The last of equals first, so that the odd ones fall to the first.
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(wish(a), wish(b)), b-a) })
	left := max(0, budget)
	for n, i := range order {
		parts[i] = min(wish(i), left/(len(order)-n))
		left -= parts[i]
	}
	even, odd := left/len(parts), left%len(parts)
	for i := range parts {
		parts[i] += even
		if i < odd {
			parts[i]++
		}
	}
	return parts
}
