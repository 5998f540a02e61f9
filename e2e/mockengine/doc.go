// Package mockengine is an upstream that speaks OpenAI's wire over real HTTP, for
// tests and benchmarks: each answer takes a stated time, follows from the request
// alone, and is counted here too, so that what Freehold booked can be set beside
// what was really used. It knows nothing of tenants.
package mockengine
