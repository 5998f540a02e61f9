// Package move holds what tenants are promised of moves: whoever asks while a tenant's
// database goes to another server is answered, once, and what a node does that nobody
// can reach ends up nowhere. The program runs as operators run it. It consists of
// tests alone.
package move
