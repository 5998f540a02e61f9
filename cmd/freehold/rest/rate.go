package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"freehold/inference"
)

// RateHeader is how a tenant stands, in the headers that OpenAI's clients read:
// tokens of the month, and requests at a time. A reset is a duration as Go writes
// it.
func RateHeader(st inference.Standing) map[string]string {
	if st.Replayed {
		return map[string]string{"Idempotent-Replayed": "true"}
	}
	h := map[string]string{
		"X-Ratelimit-Limit-Tokens":       strconv.FormatInt(st.TokenLimit, 10),
		"X-Ratelimit-Remaining-Tokens":   strconv.FormatInt(st.TokensLeft, 10),
		"X-Ratelimit-Reset-Tokens":       st.Reset.Truncate(time.Second).String(),
		"X-Ratelimit-Limit-Requests":     strconv.Itoa(st.SlotLimit),
		"X-Ratelimit-Remaining-Requests": strconv.Itoa(st.SlotsLeft),
		"X-Ratelimit-Reset-Requests":     slotReset(st).String(),
	}
	if st.MaxTokens > 0 {
		h["X-Freehold-Max-Tokens"] = strconv.Itoa(st.MaxTokens)
	}
	return h
}

// slotRetry is when it is worth asking again for a slot: nobody knows when a
// request will end.
const slotRetry = time.Second

func slotReset(st inference.Standing) time.Duration {
	if st.SlotsLeft > 0 {
		return 0
	}
	return slotRetry
}

// describeRefusal answers for a limit. Of a spent month no retry comes of use, and
// clients are told so.
func describeRefusal(e *inference.Refusal, err error) *Error {
	who := "This tenant"
	if e.ByKey {
		who = "This API key"
	}
	out := &Error{Status: http.StatusTooManyRequests, Header: RateHeader(e.Standing), Err: err}
	if errors.Is(e, inference.ErrQuota) {
		out.Code, out.Type = "insufficient_quota", "insufficient_quota"
		out.Message = fmt.Sprintf("%s has %d tokens left this month, and the request may need %d.", who, e.Standing.TokensLeft, e.Needs)
		return out
	}
	out.Code, out.Type, out.RetryAfter = "rate_limit_exceeded", "requests", slotRetry
	out.Message = who + " has as many requests at work as it may have."
	return out
}

// ClientGone reports whether a request's context ended because its client left.
func ClientGone(cause error) bool { return errors.Is(cause, errClientGone) }
