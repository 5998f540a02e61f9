package admin

import (
	"cmp"
	"net/http"
	"time"

	"freehold/cmd/freehold/metrics"
	"freehold/cmd/freehold/rest"
)

// slow is how long a request may last that makes, migrates or tests whole
// databases.
const slow = 5 * time.Minute

var tenantFilters = append([]rest.Query{
	{Name: "state", Type: "string", Summary: "Only tenants in this state; deleted ones are listed only so."},
	{Name: "server", Type: "string", Summary: "Only tenants on this server."},
	{Name: "region", Type: "string", Summary: "Only tenants of this region."},
	{Name: "plan", Type: "string", Summary: "Only tenants on this plan."},
	{Name: "label", Type: "string", Summary: "Only tenants with this label: name or name=value."},
	{Name: "schema", Type: "string", Summary: "Only tenants at this schema version: 3, <3, <=3, >3 or >=3."},
	{Name: "older_than", Type: "string", Summary: "Only tenants registered longer ago than this: 90m, 12h, 30d."},
	{Name: "newer_than", Type: "string", Summary: "Only tenants registered since then: 90m, 12h, 30d."},
	{Name: "backup_older_than", Type: "string", Summary: "Only tenants whose newest backup is older than this, and those that have none in that time, with how they stand with their backups."},
}, rest.Paging...)

// routes is the operators' API.
func (s *server) routes() []rest.Route[operator] {
	type route = rest.Route[operator]
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	list := []route{
		{Method: post, Path: "/tenants", Summary: "Create a tenant with its database. The key is shown once. With Prefer: respond-async a worker makes it, and the answer is 202 with the operation. An Idempotency-Key has the same request, within a day, answered with the tenant that it made.", Timeout: slow, Endpoint: rest.TakeLong(http.StatusCreated, s.createTenant), Once: true},
		{Method: get, Path: "/tenants", Summary: "List tenants by slug.", Query: tenantFilters, Endpoint: rest.Give(s.tenants)},
		{Method: get, Path: "/tenants/{slug}", Summary: "Show a tenant.", Endpoint: rest.Give(s.tenant)},
		{Method: get, Path: "/tenants/{slug}/config", Summary: "Show a tenant's configuration.", Endpoint: rest.Give(s.config)},
		{Method: patch, Path: "/tenants/{slug}/config", Summary: "Change what is named. It binds on every node before this answers.", Endpoint: rest.Take(http.StatusOK, s.patchConfig)},
		{Method: get, Path: "/tenants/{slug}/keys", Summary: "List a tenant's API keys.", Endpoint: rest.Give(s.keys)},
		{Method: post, Path: "/tenants/{slug}/keys", Summary: "Create an API key. The token is shown once: with an Idempotency-Key the same request, within a day, is answered with the key that it made, without its token.", Endpoint: rest.Take(http.StatusCreated, s.createKey), Once: true},
		{Method: patch, Path: "/tenants/{slug}/keys/{id}", Summary: "Change what is named of a key: its name, models and limits; null takes a limit away. It binds on every node before this answers.", Endpoint: rest.Take(http.StatusOK, s.patchKey)},
		{Method: del, Path: "/tenants/{slug}/keys/{id}", Summary: "Revoke an API key.", Endpoint: rest.Give(s.revokeKey)},
		{Method: post, Path: "/tenants/{slug}/prove", Summary: "Try every connection and grant that the tenant's role must be refused.", Timeout: slow, Endpoint: rest.Give(s.prove)},
		{Method: post, Path: "/tenants/{slug}/suspend", Summary: "Stop serving a tenant. It binds on every node before this answers; twice is once.", Timeout: slow, Endpoint: rest.Give(s.suspend)},
		{Method: post, Path: "/tenants/{slug}/resume", Summary: "Serve a suspended tenant again; twice is once.", Timeout: slow, Endpoint: rest.Give(s.resume)},
		{Method: del, Path: "/tenants/{slug}", Summary: "Stop serving a tenant now, and destroy all of it when its grace is over.", Query: graceQuery, Timeout: slow, Endpoint: rest.Begin(s.deleteTenant)},
		{Method: post, Path: "/tenants/{slug}/delete", Summary: "The same.", Query: graceQuery, Timeout: slow, Endpoint: rest.Begin(s.deleteTenant)},
		{Method: post, Path: "/tenants/{slug}/undelete", Summary: "Take a deletion back within its grace; the tenant is suspended then.", Endpoint: rest.Give(s.undelete)},
		{Method: get, Path: "/tenants/{slug}/receipt", Summary: "Show what the deletion of a tenant, by slug or id, destroyed and what it couldn't reach, signed.", Endpoint: rest.Give(s.receipt)},
		{Method: get, Path: "/tenants/{slug}/move", Summary: "Show what moving a tenant to another server would be: by which way, and for how long its requests would wait.", Query: moveQuery, Endpoint: rest.Give(s.planMove)},
		{Method: post, Path: "/tenants/{slug}/move", Summary: "Move a tenant to another server, while it is served: a worker does it.", Endpoint: rest.Take(http.StatusAccepted, s.moveTenant)},
		{Method: get, Path: "/tenants/{slug}/backups", Summary: "List a tenant's backups, newest first.", Endpoint: rest.Give(s.backups)},
		{Method: post, Path: "/tenants/{slug}/backup", Summary: "Back a tenant up: a worker does it.", Query: backupQuery, Endpoint: rest.Begin(s.backupTenant)},
		{Method: post, Path: "/tenants/{slug}/restore", Summary: "Put a tenant back to what a backup has: a worker does it. Its database of now is kept until that is confirmed.", Timeout: slow, Endpoint: rest.Take(http.StatusAccepted, s.restoreTenant)},
		{Method: post, Path: "/tenants/{slug}/restore_as", Summary: "Make a new tenant of a tenant's backup: a worker does it. The key is shown once.", Timeout: slow, Endpoint: rest.Take(http.StatusAccepted, s.restoreAs)},
		{Method: post, Path: "/tenants/{slug}/confirm", Summary: "Keep what a restore made: the database from before it is dropped.", Timeout: slow, Endpoint: rest.Give(s.confirmTenant)},
		{Method: post, Path: "/tenants/{slug}/revert", Summary: "Take a restore back that isn't confirmed: a worker does it.", Endpoint: rest.Begin(s.revertTenant)},
		{Method: get, Path: "/backup_plans", Summary: "List how tenants are backed up, by plan.", Endpoint: rest.Give(s.backupPlans)},
		{Method: http.MethodPut, Path: "/backup_plans", Summary: "Set how tenants of a plan are backed up; what isn't said stays as it is.", Endpoint: rest.Take(http.StatusOK, s.setBackupPlan)},
		{Method: del, Path: "/backup_plans/{name}", Summary: "Have a plan's tenants be backed up as those of every other plan.", Endpoint: rest.Give(s.removeBackupPlan)},
		{Method: post, Path: "/tenants/{slug}/export", Summary: "Begin an export of all that a tenant has, to be downloaded for a day: workers make it.", Endpoint: rest.Begin(s.beginExport)},
		{Method: get, Path: "/tenants/{slug}/exports", Summary: "List a tenant's exports, newest first.", Query: rest.Paging, Endpoint: rest.Give(s.exports)},
		// It tells an address that is as good as a key.
		{Method: get, Path: "/tenants/{slug}/exports/{id}", Scope: scopeOperator, Summary: "Show how far an export is, or where to download it.", Endpoint: rest.Give(s.export)},
		{Method: get, Path: "/tenants/{slug}/usage", Summary: "Show what a tenant, by slug or id, used in a month, by model: the lines of its bill. Those of deleted tenants stay.", Query: usageQuery, Endpoint: rest.Give(s.usage)},
		{Method: get, Path: "/usage", Summary: "Show what all tenants used in a month: the lines of their bills.", Query: usageQuery, Endpoint: rest.Give(s.allUsage)},
		{Method: get, Path: "/servers", Summary: "List database servers.", Endpoint: rest.Give(s.servers)},
		{Method: post, Path: "/servers", Summary: "Test a database server and add it.", Timeout: slow, Endpoint: rest.Take(http.StatusCreated, s.addServer)},
		{Method: get, Path: "/servers/{name}", Summary: "Show a database server: what it holds, what it would still take, what a crash would cost.", Endpoint: rest.Give(s.showServer)},
		{Method: patch, Path: "/servers/{name}", Summary: "Change what is named: a server's state, labels, plans, limits, connections.", Endpoint: rest.Take(http.StatusOK, s.setServer)},
		{Method: post, Path: "/servers/{name}/drain", Summary: "Have every tenant leave a server, while they are served; one that is halted goes on. It takes no new ones from now on. Workers do it.", Endpoint: rest.Take(http.StatusAccepted, s.beginDrain)},
		{Method: get, Path: "/servers/{name}/drain", Summary: "Show how far the server's drain is, the open one or the last: who is left, and whose move failed.", Endpoint: rest.Give(s.showDrain)},
		{Method: del, Path: "/servers/{name}/drain", Summary: "Give the open drain up: the server takes tenants again, and who has left stays where they went.", Endpoint: rest.Give(s.cancelDrain)},
		{Method: get, Path: "/engines", Summary: "List inference engines.", Endpoint: rest.Give(s.engines)},
		{Method: post, Path: "/engines", Summary: "Add an inference engine.", Endpoint: rest.Take(http.StatusCreated, s.addEngine)},
		{Method: del, Path: "/engines/{name}", Summary: "Remove an engine that serves no model.", Endpoint: rest.Give(s.removeEngine)},
		{Method: get, Path: "/models", Summary: "List platform models.", Endpoint: rest.Give(s.models)},
		{Method: post, Path: "/models", Summary: "Add a platform model.", Endpoint: rest.Take(http.StatusCreated, s.addModel)},
		{Method: patch, Path: "/models/{name...}", Summary: "Change what is named of a platform model: its engine, fallbacks, prices, bounds and trainer. Requests that were taken before keep their price, and fine-tuning jobs their trainer.", Endpoint: rest.Take(http.StatusOK, s.setModel)},
		{Method: del, Path: "/models/{name...}", Summary: "Remove a platform model.", Endpoint: rest.Give(s.removeModel)},
		{Method: get, Path: "/aliases", Summary: "List the names that stand for models.", Endpoint: rest.Give(s.aliases)},
		{Method: post, Path: "/aliases", Summary: "Let a name stand for a model; one that stood for another stands for this one from then on.", Endpoint: rest.Take(http.StatusCreated, s.setAlias)},
		{Method: del, Path: "/aliases/{name...}", Summary: "Take an alias away; the model stays.", Endpoint: rest.Give(s.removeAlias)},
		{Method: get, Path: "/mail", Summary: "List what the outbox owes and has sent, newest first.", Query: mailFilters, Endpoint: rest.Give(s.mail)},
		{Method: post, Path: "/mail/{id}/retry", Summary: "Send a mail now that was given up, or waits for another try.", Endpoint: rest.Give(s.retryMail)},
		{Method: get, Path: "/operations", Summary: "List operations, newest first.", Query: operationFilters, Endpoint: rest.Give(s.operations)},
		{Method: get, Path: "/operations/{id}", Summary: "Show an operation, step by step.", Endpoint: rest.Give(s.operation)},
		{Method: post, Path: "/operations/{id}/retry", Summary: "Do a failed operation again, from the step that it came to.", Endpoint: rest.Give(s.retryOperation)},
		{Method: post, Path: "/operations/{id}/cancel", Summary: "End an operation and undo what can be undone: an onboarding is rolled back.", Timeout: slow, Endpoint: rest.Give(s.cancelOperation)},
		// It runs SQL of its body in every tenant's database.
		{Method: post, Path: "/rollouts", Scope: scopeOwner, Summary: "Begin a rollout of schema changes over all tenants, wave by wave: workers do it.", Timeout: slow, Endpoint: rest.Take(http.StatusAccepted, s.beginRollout)},
		{Method: get, Path: "/rollouts", Summary: "List rollouts, newest first.", Query: rolloutFilters, Endpoint: rest.Give(s.rollouts)},
		{Method: get, Path: "/rollouts/{id}", Summary: "Show how far a rollout is, what failed and which command is next.", Endpoint: rest.Give(s.rollout)},
		{Method: get, Path: "/rollouts/{id}/targets", Summary: "List a rollout's tenants by slug.", Query: targetFilters, Endpoint: rest.Give(s.rolloutTargets)},
		{Method: post, Path: "/rollouts/{id}/resume", Summary: "Have a rollout that was halted, or ended in part, go on: what failed is tried again, by workers.", Endpoint: rest.Give(s.resumeRollout)},
		{Method: post, Path: "/rollouts/{id}/abort", Summary: "Give a rollout up: what is migrated stays so, nothing more is begun.", Query: abortQuery, Endpoint: rest.Give(s.abortRollout)},
		{Method: get, Path: "/nodes", Summary: "List nodes.", Endpoint: rest.Give(s.nodes)},
		{Method: get, Path: "/router", Summary: "Show this node's connection router: its servers, and its busiest tenants.", Query: topQuery, Endpoint: rest.Give(s.routerView)},
		{Method: get, Path: "/router/tenants/{slug}", Summary: "Show a tenant as this node's router serves it, and why it is slow or refused.", Endpoint: rest.Give(s.explain)},
		{Method: post, Path: "/router/tenants/{slug}/reconnect", Summary: "Close a tenant's connections here, lent ones when they come back.", Endpoint: rest.Give(s.reconnect)},
		{Method: get, Path: "/tokens", Scope: scopeOwner, Summary: "List operators and their roles.", Endpoint: rest.Give(s.tokens)},
		{Method: post, Path: "/tokens", Scope: scopeOwner, Summary: "Give an operator a token. It is shown once.", Endpoint: rest.Take(http.StatusCreated, s.createToken)},
		{Method: post, Path: "/tokens/{name}/rotate", Scope: scopeOwner, Summary: "Replace an operator's token. The new one is shown once, the old one holds no longer.", Endpoint: rest.Give(s.rotateToken)},
		{Method: del, Path: "/tokens/{name}", Scope: scopeOwner, Summary: "Revoke an operator's token; twice is once.", Endpoint: rest.Give(s.revokeToken)},
		{Method: get, Path: "/audit", Summary: "List what operators did, newest first.", Query: auditFilters, Endpoint: rest.Give(s.auditRows)},
		{Method: get, Path: "/audit/verify", Summary: "Read the whole chain of the audit back: rows that were changed, removed or inserted are found.", Timeout: slow, Endpoint: rest.Give(s.verifyAudit)},
		{Method: get, Path: "/status", Summary: "Show what needs a person now, and the command for it.", Endpoint: rest.Give(s.status)},
	}
	for i := range list {
		list[i].Path = "/admin/v1" + list[i].Path
	}
	if s.metrics != nil { // where collectors look for it
		list = append(list, route{Method: get, Path: "/metrics", Summary: "Metrics in Prometheus' form.", Endpoint: rest.Text(metrics.MediaType, s.prometheus)})
	}
	for i := range list {
		list[i].Scope = cmp.Or(list[i].Scope, scopeOf(list[i].Method))
	}
	return list
}
