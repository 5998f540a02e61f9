package files

import "errors"

// Errors of this package, beside *inference.BadRequest and those of tenantdb. Compare
// with errors.Is.
var (
	// ErrTooLarge is returned for a file of more than Config.MaxBytes.
	ErrTooLarge = errors.New("the file is larger than 512 MB")
	// ErrStore is returned when the object store can't be reached, or there is none.
	ErrStore = errors.New("object store unavailable")
	// ErrBusy is returned when as many uploads are at work as this process, or the
	// tenant on it, may have. Nothing was read.
	ErrBusy = errors.New("too many uploads at a time")
)
