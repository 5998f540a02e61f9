// Package limits holds what serving processes promise together about limits and
// accounts, while they are killed and the tenant's database goes away: real nodes
// as processes, a real Postgres, and an engine that counts for itself. It consists
// of tests alone.
package limits
