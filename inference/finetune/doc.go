// Package finetune makes a tenant's data into a model that only it can see. A
// Service takes jobs and tells of them; a Worker does them: it validates the files,
// hides personal data as serving does, hands what is left to a Trainer, and
// registers what that made, once, however often a worker is killed on the way.
//
// Rows are the tenant's database's (tenantdb), bytes lie under the tenant's prefix
// (blob), and whose turn it is says the catalog's work queue, which knows tenants
// and never content.
package finetune
