package lint

import (
	"maps"
	"slices"
	"strings"
)

// Rule is one thing that a migration should not do.
type Rule struct {
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	// Previous rules are about what the release before still uses while both run. They
	// leave files alone that say from which version on nobody does: freehold:contracts.
	Previous bool   `json:"previous"`
	Why      string `json:"why"`
	Safe     string `json:"safe"`
}

// Rules are all rules, by name.
func Rules() []Rule {
	all := slices.Collect(maps.Values(rules))
	slices.SortFunc(all, func(a, b Rule) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// The names of the rules.
const (
	addColumnNotNull          = "add-column-not-null"
	allowUnused               = "allow-unused"
	allowWithoutReason        = "allow-without-reason"
	attachPartition           = "attach-partition"
	backfillWithDDL           = "backfill-with-ddl"
	cascade                   = "cascade"
	checkConstraint           = "check-constraint"
	concurrentlyIfNotExists   = "concurrently-if-not-exists"
	concurrentlyInTransaction = "concurrently-in-transaction"
	concurrentlyWithoutDrop   = "concurrently-without-drop"
	doBlock                   = "do-block"
	domainConstraint          = "domain-constraint"
	dropColumn                = "drop-column"
	dropFunction              = "drop-function"
	dropIndexNotConcurrently  = "drop-index-not-concurrently"
	dropSchema                = "drop-schema"
	dropTable                 = "drop-table"
	dropType                  = "drop-type"
	dropView                  = "drop-view"
	enumRename                = "enum-rename"
	exclusionConstraint       = "exclusion-constraint"
	extension                 = "extension"
	foreignKey                = "foreign-key"
	freeholdSchema            = "freehold-schema"
	grantPublic               = "grant-public"
	indexNotConcurrently      = "index-not-concurrently"
	lockTable                 = "lock-table"
	missingDown               = "missing-down"
	noTransactionMany         = "no-transaction-many"
	parseError                = "parse-error"
	perServerObject           = "per-server-object"
	primaryKey                = "primary-key"
	refresh                   = "refresh-not-concurrently"
	reindex                   = "reindex"
	renameColumn              = "rename-column"
	renameObject              = "rename-object"
	renameSchema              = "rename-schema"
	renameTable               = "rename-table"
	revoke                    = "revoke"
	securityDefiner           = "security-definer"
	sessionSetting            = "session-setting"
	setNotNull                = "set-not-null"
	tableRewrite              = "table-rewrite"
	transactionControl        = "transaction-control"
	trigger                   = "trigger"
	truncate                  = "truncate"
	typeChange                = "type-change"
	uniqueConstraint          = "unique-constraint"
	validateInTransaction     = "validate-in-transaction"
	withoutWhere              = "update-without-where"
)

// rules are those that the two lists hold.
var rules = func() map[string]Rule {
	all := map[string]Rule{}
	for _, rule := range slices.Concat(lockRules, otherRules) {
		all[rule.Name] = rule
	}
	return all
}()

// contracted ends what a rule about the previous release says to do.
const contracted = ` Then, in a later migration, take it away, and say at the head of that file which ` +
	`version brought the release that no longer uses it: "-- freehold:contracts N".`

// Safe forms that several rules share.
const (
	safeIndex = "In a file of its own with \"-- +goose NO TRANSACTION\": " +
		"drop index concurrently if exists I; create index concurrently I on T (c);"
	safeConstraint = "alter table T add constraint C … not valid; and in the next migration " +
		"alter table T validate constraint C; which lets readers and writers pass."
	safeRewrite = "Add a column of the new form beside the old one, let the release write both, fill it in batches, " +
		"and switch over." + contracted
	safeRename = "Add the new one beside the old one (for a table: a view), let the release use the new one." + contracted
	safeBatch  = "Let the product fill the rows in batches of some thousands, each in a transaction of its own, " +
		"or do it in a later file without a change of tables."
)
