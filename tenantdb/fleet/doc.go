// Package fleet acts on whole databases: create, migrate, prove, fence. It is the
// only holder of servers' admin credentials and the only place with DDL. It never
// calls a router: it writes the catalog, and nodes follow.
package fleet
