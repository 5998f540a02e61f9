// Package catalog knows where each tenant lives and what it may do: servers and
// what they can take, tenants, ready databases, API keys, tenant configuration,
// platform engines and models, and the clock that orders every change to them. It
// also keeps what is being done and was done: operations and rollouts and who has
// them, the product's migrations, mail that is owed, operators and their audit, findings and receipts. It seals its
// secrets, and dumps and loads itself. It never opens a tenant's database and never
// holds content.
package catalog
