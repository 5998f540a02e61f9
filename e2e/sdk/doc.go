// Package sdk runs the official SDKs, unmodified and at pinned versions, against
// a `freehold dev` of its own: openai-go here, openai for Node from the scripts in
// test/. Engines are a small OpenAI-compatible server of the tests, requests pass a
// proxy that counts them, and the rest is what a tenant's developer would run.
//
// The tests stand under the tag e2e. They need Node 20 or later with npm, and fail
// without.
package sdk
