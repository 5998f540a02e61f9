// Package replica has one database follow another by Postgres's logical replication,
// on the same server or between two, of the same major or an older and a newer one,
// and shows that both hold the same rows.
//
// It works on connections that it is given and knows neither tenants nor the catalog.
// Everything that it makes for one replication bears one name, given by the caller:
// a publication in the source, a slot and a login role on its server, a subscription
// in the target. Each function may be called again after it was interrupted anywhere.
//
// The order is Publish, MakeSlot, MakeLogin, Subscribe: decoding begins at the slot and
// needs the publication there. And back: Unsubscribe, DropSlots, DropLogin, Unpublish.
//
// Errors of the driver are wrapped as they are: callers translate them before anybody
// sees them. Those of Subscribe and Probe are this package's own, because the server
// could have quoted a password.
package replica
