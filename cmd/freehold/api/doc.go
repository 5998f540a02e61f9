// Package api is the tenants' door: OpenAI's wire shapes, so that its SDKs work
// unchanged. It turns a key into an identity, an identity into a handle on one
// tenant, and hands both to the pipeline. It holds no SQL and no admin route.
package api
