// Package chaos holds the guarantees that nodes give together, under everything
// that can go wrong at once: nodes that are killed, a catalog that can't be
// reached, a server that crashes, and tenants that are suspended, paused and
// reset meanwhile. It consists of tests alone.
package chaos
