// Package files keeps a tenant's files: rows in its database, bytes under its prefix
// of the object store. A file is uploaded once and never changed. It knows forms and
// the rules of names, purposes and expiry; it knows no route, and no tenant but the
// one whose handles it is given.
//
// An upload is a row first, then bytes, then a file; what a killed process leaves of
// it is found by that row, and removed by a worker's visit.
package files
