package catalog

import (
	"math"
	"slices"
	"time"
)

// healthBounds are the upper bounds of a HealthSlot's buckets of latency: fine where
// people feel it. Each is 2 or √2 times the one before, so that twice a bound of
// 8 ms or more is a bound again.
var healthBounds = func() (bounds [30]time.Duration) {
	for i := range bounds {
		exponent := float64(i)
		if i > 3 {
			exponent = 3 + float64(i-3)/2
		}
		bounds[i] = time.Duration(math.Round(1000*math.Exp2(exponent))) * time.Microsecond
	}
	return bounds
}()

// HealthBuckets is how many buckets a HealthSlot has.
const HealthBuckets = len(healthBounds) + 1

// HealthBucket is the bucket that a request of this duration is counted in.
func HealthBucket(took time.Duration) int {
	i, _ := slices.BinarySearch(healthBounds[:], took)
	return i
}

// HealthBound is the longest duration that bucket i counts; of the last one, which
// has no bound, the longest that a Duration can be.
func HealthBound(i int) time.Duration {
	if i >= len(healthBounds) {
		return math.MaxInt64
	}
	return healthBounds[i]
}
