// Package e2e tests Freehold from outside, as an operator and a tenant meet it:
// the real binary as a child process, beside a Postgres and an object store that
// it didn't start. It also holds the import stack of the whole repository.
//
// It knows how to start those parts (child, pgcontainer, s3server) and talks to
// them over their wire protocols. Suites that need Docker bear the build tag
// e2e; all else here runs without it. Nothing of it is linked into the shipped
// binary.
package e2e
