// Package tenantdb reads and writes the rows of one tenant's database. Holding a
// *DB is being in that tenant: no function here takes a tenant id.
//
// It knows the tables of schema freehold and the fence. It never opens a
// connection and holds no credentials: a borrower brings the connection.
package tenantdb
