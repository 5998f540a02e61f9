package lint

// lockRules are about tables that are in use: what goes through all rows of one, or
// stops those who read or write it.
var lockRules = []Rule{
	{
		Name: tableRewrite, Severity: Error,
		Why:  "writes the whole table and its indexes anew, and nobody reads or writes it meanwhile",
		Safe: safeRewrite,
	},
	{
		Name: addColumnNotNull, Severity: Error,
		Why: "fails where the table has rows, which have no value for the column; " +
			"and what the previous release inserts has none",
		Safe: "Give it a constant default: alter table T add column c text not null default ''; which rewrites nothing.",
	},
	{
		Name: setNotNull, Severity: Error,
		Why: "reads the whole table while nobody reads or writes it",
		Safe: "First alter table T add constraint C check (c is not null) not valid; in the next migration validate " +
			"constraint C; in a third set not null, which then reads nothing, and drop constraint C.",
	},
	{
		Name: checkConstraint, Severity: Error,
		Why:  "reads the whole table while nobody reads or writes it",
		Safe: safeConstraint,
	},
	{
		Name: foreignKey, Severity: Error,
		Why:  "reads the whole table and looks each row up, while nobody writes either table",
		Safe: safeConstraint,
	},
	{
		Name: uniqueConstraint, Severity: Error,
		Why: "builds an index while nobody reads or writes the table",
		Safe: "Build a unique index first (" + safeIndex + ") and in the next migration: " +
			"alter table T add constraint C unique using index I;",
	},
	{
		Name: primaryKey, Severity: Error,
		Why: "builds an index while nobody reads or writes the table",
		Safe: "Make the columns not null and build a unique index first (" + safeIndex + "), and in the next migration: " +
			"alter table T add constraint C primary key using index I;",
	},
	{
		Name: exclusionConstraint, Severity: Error,
		Why:  "builds an index while nobody reads or writes the table, and there is no other way to add it",
		Safe: "Make a new table that has it and fill it in batches; or allow it for a table that stays small.",
	},
	{
		Name: domainConstraint, Severity: Error,
		Why:  "reads each table that has a column of the domain, while nobody writes it",
		Safe: "alter domain D add constraint C check (…) not valid; and in the next migration validate constraint C;",
	},
	{
		Name: validateInTransaction, Severity: Error,
		Why: "validates a constraint in the transaction that added it: the stronger lock of the addition is held " +
			"while the whole table is read",
		Safe: "Validate it in the next migration.",
	},
	{
		Name: indexNotConcurrently, Severity: Error,
		Why:  "builds an index while nobody writes the table",
		Safe: safeIndex,
	},
	{
		Name: dropIndexNotConcurrently, Severity: Error,
		Why: "waits for all who use the table, and whoever comes after waits behind it",
		Safe: "In a file of its own with \"-- +goose NO TRANSACTION\": " +
			"drop index concurrently if exists I;",
	},
	{
		Name: reindex, Severity: Error,
		Why:  "builds the index anew while nobody writes the table, or reads it by that index",
		Safe: "In a file of its own with \"-- +goose NO TRANSACTION\": reindex index concurrently I;",
	},
	{
		Name: refresh, Severity: Error,
		Why:  "fills the view while nobody reads it",
		Safe: "Give it a unique index and: refresh materialized view concurrently V;",
	},
	{
		Name: concurrentlyInTransaction, Severity: Error,
		Why: "can't run in a transaction, and several statements that are sent at once are one: it will fail",
		Safe: "Put it into a file with \"-- +goose NO TRANSACTION\", as a statement that begins and ends on lines " +
			"of its own.",
	},
	{
		Name: concurrentlyIfNotExists, Severity: Error,
		Why: "is content with an index of that name that a broken build left invalid, or that has other columns",
		Safe: "drop index concurrently if exists I; create index concurrently I on T (c); " +
			"which can be tried again, and builds what is written there.",
	},
	{
		Name: concurrentlyWithoutDrop, Severity: Warning,
		Why: "can't be tried again: a build that fails or is killed leaves an invalid index of that name, and one " +
			"that was killed after its end a valid one",
		Safe: "Above it, as a statement of its own: drop index concurrently if exists I;",
	},
	{
		Name: noTransactionMany, Severity: Error,
		Why: "runs again when a statement below it fails, since there is no transaction to take it back, " +
			"and fails the second time",
		Safe: "Give it a file of its own, or a form that can be repeated: if not exists, if exists, or replace, " +
			"on conflict do nothing.",
	},
	{
		Name: attachPartition, Severity: Warning,
		Why: "reads the whole partition, or the default one, while nobody writes the table",
		Safe: "Make it as a table of its own with a check that says what the bounds say, validated earlier, " +
			"and attach it then: alter table T attach partition P for values …;",
	},
	{
		Name: trigger, Severity: Warning,
		Why:  "waits for all who write the table, and it changes what the previous release's statements do",
		Safe: "Let the trigger do nothing for what the previous release writes, and make or drop it in a file of its own.",
	},
	{
		Name: lockTable, Severity: Error,
		Why:  "holds a lock to the end of the migration, and whoever uses the table waits",
		Safe: "Leave it out: each statement takes the lock that it needs.",
	},
	{
		Name: truncate, Severity: Error,
		Why:  "takes all rows away from the release that runs, while nobody reads or writes the table",
		Safe: "Let the product stop using the table first; or delete in batches.",
	},
	{
		Name: withoutWhere, Severity: Error,
		Why:  "changes each row at once: writers of any of them wait to its end, and the table doubles",
		Safe: safeBatch,
	},
	{
		Name: backfillWithDDL, Severity: Error,
		Why: "goes through rows in a transaction that also changes a table in use, whose lock is held to the end",
		Safe: "Change the table in one migration, and the rows in the next. " +
			safeBatch,
	},
}
