// Package tenantdb reads and writes the rows of one tenant's database: what a
// request is admitted by and leaves behind, the audit and its chain, the ledger,
// files, fine-tuning jobs and models. Holding a *DB is being in that tenant: no
// function here takes a tenant id to choose by.
//
// It knows the tables of schema freehold and the fence. It never opens a
// connection and holds no credentials: a borrower brings the connection.
package tenantdb
