// Package blob reads and writes one tenant's objects: every key is forced under
// tenants/<uuid>/, by construction. It is the only package that knows S3, and
// holding an *Objects is being under its prefix.
package blob
