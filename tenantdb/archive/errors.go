package archive

import "errors"

// Errors of this package. Compare with errors.Is.
var (
	// ErrBroken is returned for an archive that is changed, cut short or not one; the
	// text says where.
	ErrBroken = errors.New("the archive is damaged")
	// ErrNotEmpty is returned by Import when the database holds rows, or tables, that
	// the archive would bring.
	ErrNotEmpty = errors.New("the database is not empty")
	// ErrUnfit is returned by Import when the archive holds what the database has no
	// place for; the text says what.
	ErrUnfit = errors.New("the archive does not fit the database")
	// ErrStore is returned when the object store can't be read.
	ErrStore = errors.New("the object store can't be used")
)
