package lint

import (
	"fmt"
	"slices"
	"strings"
)

// judge says what there is to say about a statement of an Up section, and learns from
// it.
func (r *run) judge() {
	n := r.at.node
	r.outside(n)
	switch r.at.kind {
	case "CreateStmt":
		r.createTable(n)
	case "CreateForeignTableStmt":
		r.world.makeTable(r.world.relation(n.get("base").get("relation")))
	case "CreateTableAsStmt":
		r.world.makeTable(r.world.relation(n.get("into").get("rel")))
		r.rows(n)
	case "AlterTableStmt":
		r.alterTable(n)
	case "AlterTableMoveAllStmt":
		r.find(tableRewrite, "every table of "+n.str("orig_tablespacename"))
	case "IndexStmt":
		r.createIndex(n)
	case "ReindexStmt":
		r.reindex(n)
	case "ClusterStmt":
		r.unlessNew(tableRewrite, n.get("relation"))
	case "VacuumStmt":
		r.vacuum(n)
	case "RefreshMatViewStmt":
		if !n.flag("concurrent") {
			r.unlessNew(refresh, n.get("relation"))
		}
	case "CreateSchemaStmt":
		if !n.flag("if_not_exists") {
			r.world.schemas[n.str("schemaname")] = r.world.file
		}
	case "ViewStmt":
		if !n.flag("replace") {
			r.world.makeOther(r.world.relation(n.get("view")))
		}
	case "CreateSeqStmt":
		r.world.makeOther(r.world.relation(n.get("sequence")))
	case "CompositeTypeStmt":
		r.world.makeOther(r.world.relation(n.get("typevar")))
	case "CreateEnumStmt", "CreateRangeStmt":
		r.world.makeOther(r.world.words(n.words("typeName")))
	case "DefineStmt":
		r.world.makeOther(r.world.words(n.words("defnames")))
	case "CreateDomainStmt":
		r.world.makeOther(r.world.words(n.words("domainname"))).strict = len(n.list("constraints")) > 0
	case "AlterDomainStmt":
		r.alterDomain(n)
	case "AlterEnumStmt":
		if object := r.world.words(n.words("typeName")); n.str("oldVal") != "" && !r.world.newOther(object) {
			r.find(enumRename, object.String())
		}
	case "CreateFunctionStmt":
		r.createFunction(n)
	case "AlterFunctionStmt":
		r.alterFunction(n)
	case "CreateTrigStmt", "RuleStmt":
		r.locked(r.unlessNew(trigger, n.get("relation")))
	case "CreatePolicyStmt", "AlterPolicyStmt":
		r.locked(!r.world.newTable(r.world.relation(n.get("table"))))
	case "DropStmt":
		r.drop(n)
	case "RenameStmt":
		r.rename(n)
	case "AlterObjectSchemaStmt":
		r.moveSchema(n)
	case "GrantStmt":
		r.grant(n)
	case "AlterDefaultPrivilegesStmt":
		r.grantees(n.get("action"))
	case "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt":
		r.rows(n)
	case "SelectStmt":
		if into := n.get("intoClause"); into != nil {
			r.world.makeTable(r.world.relation(into.get("rel")))
		}
		r.rows(n)
	case "TruncateStmt", "LockStmt":
		r.wholeTables(n)
	case "CreateExtensionStmt", "AlterExtensionStmt", "AlterExtensionContentsStmt":
		r.find(extension, n.str("extname"))
	case "DoStmt":
		r.find(doBlock, "")
	}
	r.session(n)
	r.perServer(n)
}

// judgeDown says what is wrong about a statement of a Down section. It is run by hand,
// for one tenant, to take something away: what it locks or drops is no finding.
func (r *run) judgeDown() {
	n := r.at.node
	r.outside(n)
	r.session(n)
	r.perServer(n)
	switch r.at.kind {
	case "IndexStmt", "DropStmt":
		r.concurrently(n.flag("concurrent"))
	case "ReindexStmt":
		r.concurrently(n.option("params", "concurrently") != nil)
	}
}

// locked notes that a table which is in use has a strong lock until the transaction ends.
func (r *run) locked(yes bool) { r.locks = r.locks || yes }

// unlessNew reports a table that wasn't made by this file, and tells whether it wasn't.
func (r *run) unlessNew(rule string, relation node) bool {
	table := r.world.relation(relation)
	if r.world.newTable(table) {
		return false
	}
	r.find(rule, table.String())
	return true
}

// inTransaction tells whether the statement at hand shares a transaction: several that
// are sent at once are one, too.
func (r *run) inTransaction() bool { return !r.src.noTx || !r.at.alone }

func (r *run) concurrently(asked bool) {
	if asked && r.inTransaction() {
		r.find(concurrentlyInTransaction, "")
	}
}

func (r *run) createTable(n node) {
	relation := n.get("relation")
	if parents := n.all("inhRelations", "RangeVar"); n.get("partbound") != nil && len(parents) == 1 {
		r.locked(r.unlessNew(attachPartition, parents[0]))
	}
	t := r.world.makeTable(r.world.relation(relation))
	t.partitioned = n.get("partspec") != nil
	for _, column := range n.all("tableElts", "ColumnDef") {
		t.add(r.world.file, column)
	}
	for _, c := range n.all("tableElts", "Constraint") {
		t.constrain(r.world.file, c)
	}
}

func (r *run) createIndex(n node) {
	table := r.world.relation(n.get("relation"))
	index := name{table.schema, n.str("idxname")}
	r.world.indexes[index] = r.world.file
	if !n.flag("concurrent") {
		// Only on a partitioned table it builds nothing.
		only := !n.get("relation").flag("inh") && r.world.table(table).partitioned
		if !r.world.newTable(table) && !only {
			r.locks = true
			r.find(indexNotConcurrently, table.String())
		}
		return
	}
	r.concurrently(true)
	room := slices.Contains(r.dropped, index.object)
	switch {
	case n.flag("if_not_exists") && !room:
		r.find(concurrentlyIfNotExists, index.object)
	case !n.flag("if_not_exists") && !room && r.src.noTx:
		r.find(concurrentlyWithoutDrop, index.object)
	}
}

func (r *run) reindex(n node) {
	concurrent := n.option("params", "concurrently") != nil
	r.concurrently(concurrent)
	if concurrent {
		return
	}
	subject := n.str("name")
	if relation := n.get("relation"); relation != nil {
		object := r.world.relation(relation)
		if r.world.newTable(object) || r.world.newIndex(object) {
			return
		}
		subject = object.String()
	}
	r.locks = true
	r.find(reindex, subject)
}

func (r *run) vacuum(n node) {
	if !n.flag("is_vacuumcmd") {
		return // analyze
	}
	if r.inTransaction() {
		r.find(concurrentlyInTransaction, "vacuum")
	}
	if n.option("options", "full") != nil {
		r.find(tableRewrite, "vacuum full")
	}
}

func (r *run) alterDomain(n node) {
	domain := r.world.words(n.words("typeName"))
	if r.world.newOther(domain) {
		return
	}
	switch n.str("subtype") {
	case "C":
		if !n.is("def", "Constraint").flag("skip_validation") {
			r.find(domainConstraint, domain.String())
		}
	case "O":
		r.find(domainConstraint, domain.String()+" set not null")
	}
}

func (r *run) createFunction(n node) {
	words := n.words("funcname")
	function := r.world.words(words)
	steady := false
	if arg := n.option("options", "volatility").is("arg", "String"); arg != nil {
		steady = arg.str("sval") != "volatile"
	}
	if !n.flag("replace") || r.world.newOther(function) {
		r.world.makeOther(function).steady = steady
	}
	if n.option("options", "security").is("arg", "Boolean").flag("boolval") && !setsPath(n.all("options", "DefElem")) {
		r.find(securityDefiner, function.String())
	}
}

func (r *run) alterFunction(n node) {
	if n.option("actions", "security").is("arg", "Boolean").flag("boolval") && !setsPath(n.all("actions", "DefElem")) {
		r.find(securityDefiner, r.world.words(n.get("func").words("objname")).String())
	}
}

func setsPath(options []node) bool {
	return slices.ContainsFunc(options, func(option node) bool {
		return option.str("defname") == "set" && option.is("arg", "VariableSetStmt").str("name") == "search_path"
	})
}

// wholeTables judges TRUNCATE and LOCK.
func (r *run) wholeTables(n node) {
	rule := map[string]string{"TruncateStmt": truncate, "LockStmt": lockTable}[r.at.kind]
	for _, relation := range n.all("relations", "RangeVar") {
		r.locked(r.unlessNew(rule, relation))
	}
	r.cascades(n)
}

func (r *run) cascades(n node) {
	if n.str("behavior") == "DROP_CASCADE" {
		r.find(cascade, "")
	}
}

// session judges what outlasts a statement: settings and transactions.
func (r *run) session(n node) {
	switch r.at.kind {
	case "TransactionStmt":
		r.find(transactionControl, "")
	case "VariableSetStmt":
		r.set(n)
	case "SelectStmt":
		walk(n, func(at string, call node) bool {
			if words := call.words("funcname"); at == "FuncCall" && words[len(words)-1] == "set_config" {
				r.setConfig(call.list("args"))
			}
			return true
		})
	}
}

func (r *run) set(n node) {
	setting := n.str("name")
	if kind := n.str("kind"); kind != "VAR_SET_VALUE" && kind != "VAR_SET_CURRENT" {
		return // back to the default, or of the transaction
	}
	if strings.EqualFold(setting, "search_path") {
		r.world.path = ""
		if args := n.list("args"); len(args) > 0 {
			r.world.path, _ = args[0].constant()
		}
	}
	if !n.flag("is_local") {
		r.outlasts(setting)
	}
}

func (r *run) setConfig(args []node) {
	if len(args) != 3 {
		return
	}
	setting, _ := args[0].constant()
	if local := args[2].get("A_Const").get("boolval").flag("boolval"); !local {
		r.outlasts(setting)
	}
}

// outlasts reports a setting of the session. Without a transaction there is no other
// kind, but who owns what a migration makes is never to be changed.
func (r *run) outlasts(setting string) {
	if identity(setting) || r.inTransaction() {
		r.find(sessionSetting, setting)
	}
}

// identity settings say who the session is.
func identity(setting string) bool {
	return strings.EqualFold(setting, "role") || strings.EqualFold(setting, "session_authorization")
}

// perServer judges what belongs to a whole server, or to the database as a whole.
func (r *run) perServer(n node) {
	switch r.at.kind {
	case "AlterSystemStmt", "CreatedbStmt", "AlterDatabaseStmt", "AlterDatabaseSetStmt",
		"AlterDatabaseRefreshCollStmt", "DropdbStmt", "CreateRoleStmt", "AlterRoleStmt", "AlterRoleSetStmt",
		"DropRoleStmt", "GrantRoleStmt", "CreateTableSpaceStmt", "DropTableSpaceStmt",
		"AlterTableSpaceOptionsStmt", "DropOwnedStmt", "ReassignOwnedStmt", "CreateSubscriptionStmt",
		"AlterSubscriptionStmt", "DropSubscriptionStmt":
		r.find(perServerObject, "")
		return
	}
	for _, field := range []string{"objtype", "objectType", "renameType"} {
		switch object := n.str(field); object {
		case "OBJECT_DATABASE", "OBJECT_ROLE", "OBJECT_TABLESPACE":
			r.find(perServerObject, strings.ToLower(strings.TrimPrefix(object, "OBJECT_")))
		}
	}
}

// part names a column of a table.
func part(table name, column string) string { return fmt.Sprintf("%s.%s", table, column) }
