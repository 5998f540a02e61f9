package openai

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter is the longest that one retry waits for an upstream's sake.
const maxRetryAfter = 2 * time.Second

// pause is how long to wait after the nth try, from 1: 100 to 200 ms, then double.
func pause(n int) time.Duration {
	d := 100 * time.Millisecond << (n - 1)
	return d + rand.N(d) //nolint:gosec // spreads retries, hides nothing
}

// retryable reports whether a refusal is worth another try, and when: least is the
// shortest wait. The order of the headers is that of the official clients.
func retryable(resp *http.Response, why reason, least time.Duration) (time.Duration, bool) {
	switch resp.Header.Get("X-Should-Retry") {
	case "false":
		return 0, false
	case "true":
	default:
		if !passing(resp.StatusCode) || why.Code == "insufficient_quota" {
			return 0, false
		}
	}
	d, said := retryAfter(resp.Header)
	if !said {
		return least, true
	}
	return max(d, least), d <= maxRetryAfter
}

// passing reports whether a status tells of a state that may pass soon. A gateway's
// timeout (504) is not among them: the time has been spent already.
func passing(status int) bool {
	const overloaded = 529 // some upstreams' own
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, overloaded:
		return true
	}
	return false
}

// retryAfter reads how long an upstream asks to wait. What can't be read says
// nothing, and what is past is 0.
func retryAfter(h http.Header) (d time.Duration, said bool) {
	for _, f := range []struct {
		name string
		unit time.Duration
	}{{"Retry-After-Ms", time.Millisecond}, {"Retry-After", time.Second}} {
		n, err := strconv.ParseFloat(h.Get(f.name), 64)
		if err != nil || math.IsNaN(n) {
			continue
		}
		// A float may be beyond any duration; beyond an hour it is all the same.
		hour := float64(time.Hour / f.unit)
		return time.Duration(min(max(n, 0), hour) * float64(f.unit)), true
	}
	at, err := http.ParseTime(h.Get("Retry-After"))
	if err != nil {
		return 0, false
	}
	return max(0, time.Until(at)), true
}
