// Package upgrade holds what README says of upgrading: the release before and the
// next one serve one fleet while it is brought from the one's schema to the other's,
// and no request fails. Releases are built from these sources with further migrations
// laid over them, and run as README runs them. It consists of tests alone.
package upgrade
