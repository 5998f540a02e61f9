// Package fleet acts on whole databases: create, migrate, prove, fence, suspend,
// delete, keep ready, compare with the catalog, and back the catalog itself up.
// What takes long is an operation, done step by step by whichever worker has it;
// what a tenant's activity leaves to do, a worker's visit does; a change of every
// schema is a rollout, at which any number of processes take turns.
// It is the only holder of servers' admin credentials and the only place with DDL.
// It never calls a router: it writes the catalog, and nodes follow.
package fleet
