// Package rest is what both doors share: the funnel that a handler stands in,
// the error table, request ids, paging, event streams, the probes, and the
// OpenAPI document made from the same table as the routes. It knows HTTP and
// the sentinels of the packages below; it knows no route and no tenant.
package rest
