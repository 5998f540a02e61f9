package rest

// What fuzzing reaches directly.
var (
	Bearer    = bearer
	RequestID = requestID
)

// Decode is decode of some type.
func Decode[T any](body []byte) (T, error) { return decode[T](body) }

// Span reads a Range header.
var Span = span
