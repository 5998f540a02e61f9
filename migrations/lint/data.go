package lint

import (
	"slices"
	"strings"
)

// rows judges statements that change rows or copy them, also those in WITH.
func (r *run) rows(n node) {
	within := node{r.at.kind: map[string]any(n)}
	local := map[string]bool{} // names that WITH gives
	walk(within, func(at string, n node) bool {
		if at == "CommonTableExpr" {
			local[n.str("ctename")] = true
		}
		return true
	})
	walk(within, func(at string, n node) bool {
		switch at {
		case "UpdateStmt", "DeleteStmt":
			r.changeRows(n)
		case "MergeStmt":
			r.hold(r.world.relation(n.get("relation")))
		case "InsertStmt":
			r.copies(n.get("selectStmt"), local)
		case "CreateTableAsStmt":
			r.copies(n.get("query"), local)
		case "SelectStmt":
			if n.get("intoClause") != nil {
				r.copies(node{at: map[string]any(n)}, local)
			}
		}
		return true
	})
}

func (r *run) changeRows(n node) {
	table := r.world.relation(n.get("relation"))
	if r.world.newTable(table) {
		return
	}
	where := n.get("whereClause")
	if where == nil || where.get("A_Const").get("boolval").flag("boolval") {
		r.find(withoutWhere, table.String())
	}
	r.hold(table)
}

// hold notes that a statement goes through a table's rows, which is bad where the
// file's other statements hold locks meanwhile.
func (r *run) hold(table name) {
	if !r.world.newTable(table) && !system(table) {
		r.reads = append(r.reads, held{r.at, table.String()})
	}
}

// copies notes the tables that rows are copied from.
func (r *run) copies(query node, local map[string]bool) {
	walk(query, func(at string, n node) bool {
		for _, relation := range n.all("fromClause", "RangeVar") {
			r.copiesFrom(relation, local)
		}
		for _, side := range []string{"larg", "rarg"} {
			if relation := n.is(side, "RangeVar"); relation != nil {
				r.copiesFrom(relation, local)
			}
		}
		return true
	})
}

func (r *run) copiesFrom(relation node, local map[string]bool) {
	if relation.str("schemaname") == "" && local[relation.str("relname")] {
		return
	}
	r.hold(r.world.relation(relation))
}

// system tables are small enough.
func system(table name) bool {
	return table.schema == "pg_catalog" || table.schema == "information_schema" || strings.HasPrefix(table.object, "pg_")
}

// repeats judges a file that runs without a transaction: after a failure it is run from
// its beginning, so all but the last statement may have been done already.
func (r *run) repeats(ups []*statement) {
	var room []string
	for i, s := range ups {
		if s.kind == "DropStmt" && s.node.flag("missing_ok") {
			for _, object := range s.node.list("objects") {
				words := objectWords(object)
				room = append(room, words[len(words)-1])
			}
		}
		if s.kind == "AlterTableStmt" {
			for _, cmd := range s.node.all("cmds", "AlterTableCmd") {
				if cmd.flag("missing_ok") {
					room = append(room, cmd.str("name"))
				}
			}
		}
		if i < len(ups)-1 && !s.repeatable(room) {
			r.at = s
			r.find(noTransactionMany, "")
		}
	}
}

// repeatable tells whether a statement can be done twice. There is room for what was
// dropped, where it was there, just before.
func (s *statement) repeatable(room []string) bool {
	n := s.node
	free := func(name string) bool { return slices.Contains(room, name) }
	switch s.kind {
	case "CreateStmt":
		return n.flag("if_not_exists") || free(n.get("relation").str("relname"))
	case "CreateTableAsStmt":
		return n.flag("if_not_exists") || free(n.get("into").get("rel").str("relname"))
	case "CreateSeqStmt", "CreateSchemaStmt", "CreateExtensionStmt":
		return n.flag("if_not_exists")
	case "IndexStmt":
		return n.flag("if_not_exists") || free(n.str("idxname"))
	case "ViewStmt", "CreateFunctionStmt", "RuleStmt":
		return n.flag("replace")
	case "CreateTrigStmt":
		return n.flag("replace") || free(n.str("trigname"))
	case "CreatePolicyStmt":
		return free(n.str("policy_name"))
	case "CreateEnumStmt", "CreateRangeStmt":
		words := n.words("typeName")
		return free(words[len(words)-1])
	case "CompositeTypeStmt":
		return free(n.get("typevar").str("relname"))
	case "CreateDomainStmt":
		words := n.words("domainname")
		return free(words[len(words)-1])
	case "DropStmt":
		return n.flag("missing_ok")
	case "AlterEnumStmt":
		return n.flag("skipIfNewValExists")
	case "RenameStmt", "AlterObjectSchemaStmt", "DefineStmt":
		return false
	case "InsertStmt":
		return n.get("onConflictClause") != nil
	case "AlterTableStmt":
		for _, cmd := range n.all("cmds", "AlterTableCmd") {
			if !repeatableCommand(cmd, free) {
				return false
			}
		}
	}
	return true
}

func repeatableCommand(cmd node, free func(string) bool) bool {
	switch cmd.str("subtype") {
	case "AT_AddColumn":
		return cmd.flag("missing_ok") || free(cmd.is("def", "ColumnDef").str("colname"))
	case "AT_DropColumn", "AT_DropConstraint":
		return cmd.flag("missing_ok")
	case "AT_AddConstraint":
		return free(cmd.is("def", "Constraint").str("conname"))
	case "AT_AddIdentity", "AT_AttachPartition", "AT_DetachPartition", "AT_AddInherit", "AT_DropInherit":
		return false
	}
	return true
}
