package lint

// otherRules are about the previous release, about what isn't the stream's own, and
// about the files themselves.
var otherRules = []Rule{
	{
		Name: typeChange, Severity: Error, Previous: true,
		Why:  "the previous release reads and writes the old type",
		Safe: safeRewrite,
	},
	{
		Name: dropTable, Severity: Error, Previous: true,
		Why:  "the previous release still uses it, and its requests fail",
		Safe: "Let a release stop using it first." + contracted,
	},
	{
		Name: dropColumn, Severity: Error, Previous: true,
		Why:  "the previous release still reads or writes it, and its requests fail",
		Safe: "Let a release stop using it first, and give it a default or let it be null." + contracted,
	},
	{
		Name: dropSchema, Severity: Error, Previous: true,
		Why:  "the previous release still uses what is in it",
		Safe: "Let a release stop using it first." + contracted,
	},
	{
		Name: dropView, Severity: Error, Previous: true,
		Why:  "the previous release still reads it",
		Safe: "Let a release stop using it first; to change it: create or replace view." + contracted,
	},
	{
		Name: dropFunction, Severity: Error, Previous: true,
		Why: "the previous release still calls it",
		Safe: "Let a release stop calling it first; to change it: create or replace function, " +
			"or another one beside it." + contracted,
	},
	{
		Name: dropType, Severity: Error, Previous: true,
		Why:  "the previous release still names it",
		Safe: "Let a release stop using it first." + contracted,
	},
	{
		Name: renameTable, Severity: Error, Previous: true,
		Why:  "the previous release still calls it by the old name",
		Safe: safeRename,
	},
	{
		Name: renameColumn, Severity: Error, Previous: true,
		Why:  "the previous release still calls it by the old name",
		Safe: safeRewrite,
	},
	{
		Name: renameSchema, Severity: Error, Previous: true,
		Why:  "the previous release still calls it by the old name",
		Safe: safeRename,
	},
	{
		Name: renameObject, Severity: Error, Previous: true,
		Why:  "the previous release still calls it by the old name",
		Safe: safeRename,
	},
	{
		Name: enumRename, Severity: Error, Previous: true,
		Why:  "the previous release still writes the old value, and doesn't know the new one",
		Safe: "alter type E add value 'new'; and let the release read both and write the new one.",
	},
	{
		Name: revoke, Severity: Error, Previous: true,
		Why:  "the previous release may still need the right",
		Safe: "Let a release do without it first." + contracted,
	},
	{
		Name: cascade, Severity: Warning,
		Why:  "takes along what depends on it, unnamed, which need not be the same in each database",
		Safe: "Name each object, and leave CASCADE out: the migration then fails where somebody else needs one.",
	},
	{
		Name: grantPublic, Severity: Error,
		Why:  "gives the right to every role of the server, those of other tenants too",
		Safe: "Grant to freehold_tenant, which the tenant's own role belongs to.",
	},
	{
		Name: securityDefiner, Severity: Error,
		Why: "runs with its owner's rights and finds its names by the caller's search_path: " +
			"who can create something can run it as the owner",
		Safe: "create function … security definer set search_path = pg_catalog, pg_temp; with each name qualified.",
	},
	{
		Name: freeholdSchema, Severity: Error,
		Why: "belongs to Freehold, whose upgrades change it without notice, as the product's never touch what is Freehold's",
		Safe: "Keep to schemas of your own; keep a copy of an id instead of a reference. " +
			"Only freehold_tenant may be named, in grants on what is yours and in policies.",
	},
	{
		Name: perServerObject, Severity: Error,
		Why: "is one for the whole server, or the database itself, which Freehold keeps: it would be done once for each " +
			"tenant, by a role that may not, and isn't in a backup of the tenant",
		Safe: "Leave it out; roles, databases and settings are the operator's and Freehold's.",
	},
	{
		Name: extension, Severity: Warning,
		Why: "needs an extension that is installed on each server, and a right that freehold_owner has for " +
			"trusted ones alone",
		Safe: "Make sure that each server has it, try it with a dry run, and write: create extension if not exists E;",
	},
	{
		Name: doBlock, Severity: Warning,
		Why:  "is code that is not read here: what it locks or drops isn't known",
		Safe: "Write plain statements where they will do; else try it with a dry run, which lists the locks.",
	},
	{
		Name: transactionControl, Severity: Error,
		Why:  "ends or splits the transaction in which the migration and its record are written together",
		Safe: "Leave it out, or put what must stand alone into a file of its own.",
	},
	{
		Name: sessionSetting, Severity: Error,
		Why: "is kept for the session, beyond the transaction; and what another role makes, Freehold can't migrate",
		Safe: "set local lock_timeout = '2s'; and leave role and session authorization alone. In a file with " +
			"\"-- +goose NO TRANSACTION\" other settings are fine: they end with the file.",
	},
	{
		Name: parseError, Severity: Error,
		Why: "goose or PostgreSQL (17, by whose grammar it is read) will not take it",
		Safe: "Mend it. A statement ends at a line that ends in a semicolon; one with semicolons inside, such as a " +
			"function, stands between \"-- +goose StatementBegin\" and \"-- +goose StatementEnd\".",
	},
	{
		Name: missingDown, Severity: Warning,
		Why:  "has no statement below \"-- +goose Down\": it can't be taken back",
		Safe: "Write what undoes it, or say above \"-- +goose Up\" why nothing does: -- freehold:allow missing-down REASON",
	},
	{
		Name: allowWithoutReason, Severity: Error,
		Why:  "the comment silences nothing without a rule that there is and a reason",
		Safe: "-- freehold:allow RULE why it is safe here",
	},
	{
		Name: allowUnused, Severity: Warning,
		Why:  "the rule found nothing there: the comment would hide what is written later",
		Safe: "Delete the comment, or put it just above the statement that is meant.",
	},
}
