// Package catalog knows where each tenant lives and what it may do: servers,
// tenants, API keys, tenant configuration, platform engines and models, and the
// clock that orders every change to them. It never opens a tenant's database and
// never holds content.
package catalog
