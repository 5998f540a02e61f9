package inference

import (
	"errors"
	"time"

	"freehold/inference/engine"
)

var (
	// ErrModelNotFound is returned when no model has the name.
	ErrModelNotFound = errors.New("model not found")
	// ErrModelNotAllowed is returned when the model exists and the tenant, or the
	// key, may not use it.
	ErrModelNotAllowed = errors.New("model not allowed")
	// ErrQuota is returned, in a *Refusal, when the month's tokens don't suffice.
	ErrQuota = errors.New("the month's tokens are spent")
	// ErrConcurrency is returned, in a *Refusal, when every slot is taken.
	ErrConcurrency = errors.New("too many requests at once")
	// ErrPersonalData is wrapped by the *BadRequest that refuses personal data under
	// pii_mode block.
	ErrPersonalData = errors.New("the request holds personal data")
	// ErrMismatch is returned when an Idempotency-Key comes again with another request.
	ErrMismatch = errors.New("the Idempotency-Key was used for another request")
	// ErrNotKept is returned when an Idempotency-Key's request was answered, and its
	// answer was too large to be kept.
	ErrNotKept = errors.New("the request was answered, and the answer was too large to be kept")
)

// ErrStopped is the cause with which Stop ends what outlives its client, and those
// who wait for its answer.
var ErrStopped = errors.New("the service has stopped")

// errNoStore is returned for a model's artifact where there is no object store.
var errNoStore = errors.New("no object store is configured")

// errTwice is returned by a second Stream.Run.
var errTwice = errors.New("a stream runs once")

// BadRequest is a request that can't be served as it is. Param names the place,
// Message says what is wanted there; neither holds what was sent, except that an
// upstream engine's own refusal may quote it. It is for the client, not for logs.
type BadRequest struct {
	Param, Message string
	cause          error
}

func (e *BadRequest) Error() string { return e.Message }

// Unwrap returns the *engine.Error of an engine's refusal, ErrPersonalData, or nil.
func (e *BadRequest) Unwrap() error { return e.cause }

// Refusal is a request that a limit refused; nothing was done. It is ErrQuota or
// ErrConcurrency.
type Refusal struct {
	Err error
	// ByKey says that it was the key's own limit, not the tenant's.
	ByKey bool
	// Needs are the tokens that the request can't do without: what is sent, bounded
	// by its bytes, and an answer.
	Needs    int64
	Standing Standing
}

func (e *Refusal) Error() string { return e.Err.Error() }

// Unwrap returns ErrQuota or ErrConcurrency.
func (e *Refusal) Unwrap() error { return e.Err }

// Standing is how tenant and key stand after an admission, by the nearer of their
// limits.
type Standing struct {
	TokenLimit, TokensLeft int64 // of the calendar month, UTC
	Reset                  time.Duration
	SlotLimit, SlotsLeft   int
	// MaxTokens is what the answer was clamped to, each choice of it; 0: it wasn't.
	MaxTokens int
	// Replayed says that this is an earlier answer, given again: the figures are 0.
	Replayed bool
}

// translate turns an engine's refusal into a BadRequest and leaves the rest.
func translate(err error) error {
	var e *engine.Error
	if errors.As(err, &e) && (e.Kind == engine.BadRequest || e.Kind == engine.Unsupported) {
		return &BadRequest{Param: e.Param, Message: e.Message, cause: e}
	}
	return err
}
