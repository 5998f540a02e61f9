package inference

import (
	"errors"

	"freehold/inference/engine"
)

var (
	// ErrModelNotFound is returned when no model has the name.
	ErrModelNotFound = errors.New("model not found")
	// ErrModelNotAllowed is returned when the model exists and the tenant may not
	// use it.
	ErrModelNotAllowed = errors.New("model not allowed")
)

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

// Unwrap returns the *engine.Error of an engine's refusal, else nil.
func (e *BadRequest) Unwrap() error { return e.cause }

// translate turns an engine's refusal into a BadRequest and leaves the rest.
func translate(err error) error {
	var e *engine.Error
	if errors.As(err, &e) && (e.Kind == engine.BadRequest || e.Kind == engine.Unsupported) {
		return &BadRequest{Param: e.Param, Message: e.Message, cause: e}
	}
	return err
}
