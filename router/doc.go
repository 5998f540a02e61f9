// Package router brings each request to its tenant's database: an LRU of
// pgxpools, borrowed by handle. It knows routes and connections, never SQL of its
// own and never an admin's credentials.
//
// A borrow looks the tenant up, notes that it was used and pins its pool in one
// step under one lock; a pinned pool is never closed. A tenant without a pool is
// opened once for the whole crowd that asks for it, detached from whoever came
// first, and each new connection proves whose database it stands in before it is
// used. What the catalog says of a tenant is held with the epoch it is true for:
// a borrower who decided on a newer truth makes the router look again.
package router
