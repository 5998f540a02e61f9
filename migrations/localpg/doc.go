// Package localpg runs a private Postgres on this machine, from binaries that
// are installed already: for `freehold dev` and for tests. It finds the
// binaries, makes the cluster, starts the server as a child of this process
// and sees to it that the server ends when this process does, however that
// happens.
//
// It knows nothing of catalogs, tenants or migrations. Production servers are
// somebody else's: nothing here may be used to run one.
package localpg
