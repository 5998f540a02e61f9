// Package pgcontainer starts a Postgres server in a Docker container for one
// test: empty, never seen by Freehold, and prepared only by the statement that
// `server add` asks a superuser for. It knows Docker and SQL, and nothing of
// Freehold's own tables.
//
// The rest of it bears the build tag e2e. It fails, and never skips, when no
// Docker answers.
package pgcontainer
