// Package admin is the operators' door: what the commands do, over HTTP, behind
// one token. It shares no listener with the tenants' API.
package admin
