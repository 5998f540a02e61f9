// Package archive writes and reads what a tenant takes along: its rows as lines of
// JSON, the definitions of its product's tables, the bytes of its files and models,
// in one .tar.zst that ends in a manifest with the sum of each entry. It knows one
// tenant's database and prefix, by the connection and the handle that it is given,
// and neither catalog nor server.
package archive
