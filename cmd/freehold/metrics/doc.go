// Package metrics says in Prometheus' form how a node does: its router, its
// doors, its process. Cardinality is bounded: by servers, routes and the busiest
// tenants, never by what a client makes up. No value or label holds a secret or
// what a tenant wrote.
package metrics
