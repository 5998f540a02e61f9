package catalog

import "errors"

// Errors of this package. Compare with errors.Is.
var (
	// ErrNotFound is returned when the named row doesn't exist (or is deleted).
	ErrNotFound = errors.New("not found")
	// ErrExists is returned when a name is taken.
	ErrExists = errors.New("already exists")
	// ErrConflict is returned when the row's state forbids the change.
	ErrConflict = errors.New("state forbids it")
	// ErrLost is returned to a worker whose operation, or piece of work, another one
	// has taken, or that has ended: it must stop.
	ErrLost = errors.New("it is another worker's by now")
	// ErrCancelled is returned to a worker whose operation, or piece of work, somebody
	// asked to cancel.
	ErrCancelled = errors.New("it is to be cancelled")
	// ErrMismatch is returned when an Idempotency-Key comes again with another request.
	ErrMismatch = errors.New("the Idempotency-Key was used for another request")
	// ErrInvalid is wrapped by every refusal of an argument; the text names it.
	ErrInvalid = errors.New("invalid")
	// ErrInvalidKey is the one answer to a missing, malformed, unknown, expired
	// or revoked API key.
	ErrInvalidKey = errors.New("invalid API key")
	// ErrUnavailable is returned when the catalog can't be reached and what is
	// known is too old to act on.
	ErrUnavailable = errors.New("catalog unavailable")
	// ErrWrongMasterKey is returned by Open when the keyset isn't the one that
	// this catalog was sealed with.
	ErrWrongMasterKey = errors.New("the master key is not the one this catalog was sealed with")
	// ErrNotMigrated is returned by Open when the catalog's schema is missing or
	// older than this binary's.
	ErrNotMigrated = errors.New("the catalog's schema does not fit this binary: run freehold catalog migrate")
	// ErrSignature is returned when a signature isn't the key's over these bytes.
	ErrSignature = errors.New("the signature does not fit")
	// ErrSealBroken is returned for a sealed stream that is changed, cut short, of
	// another owner or sealed with another key.
	ErrSealBroken = errors.New("sealed with another key, for another owner, changed or cut short")
)
