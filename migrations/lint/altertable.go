package lint

import (
	"slices"
	"strings"
)

func (r *run) alterTable(n node) {
	table := r.world.relation(n.get("relation"))
	kind := n.str("objtype")
	isNew := r.world.newTable(table)
	switch kind {
	case "OBJECT_TYPE":
		isNew = r.world.newOther(table)
	case "OBJECT_INDEX":
		isNew = r.world.newIndex(table)
	case "OBJECT_VIEW", "OBJECT_SEQUENCE":
		isNew = isNew || r.world.newOther(table)
	}
	offsets := r.at.commands(n.get("relation").number("location"))
	for i, cmd := range n.all("cmds", "AlterTableCmd") {
		a := alter{run: r, table: table, cmd: cmd, from: r.at.begin, to: r.at.end}
		if i < len(offsets) {
			a.from, a.to = offsets[i].from, offsets[i].to
		}
		if !isNew {
			a.judge(kind != "OBJECT_TYPE")
		}
		if kind == "OBJECT_TABLE" || kind == "OBJECT_FOREIGN_TABLE" {
			a.learn()
		}
	}
}

// span is a part of a chunk's text.
type span struct{ from, to int }

// commands are the places of an ALTER TABLE's commands: behind the table's name, and
// behind each comma.
func (s *statement) commands(relation int) []span {
	tokens, err := scan(s.chunk.text[:s.end])
	if err != nil {
		return nil
	}
	tokens = tokens[slices.IndexFunc(tokens, func(t token) bool { return t.start >= relation })+1:]
	for len(tokens) > 1 && tokens[0].text == "." {
		tokens = tokens[2:]
	}
	if len(tokens) > 0 && tokens[0].text == "*" {
		tokens = tokens[1:]
	}
	var found []span
	depth, begins := 0, true
	for _, t := range tokens {
		if begins {
			found = append(found, span{from: t.start})
		}
		switch t.text {
		case "(", "[":
			depth++
		case ")", "]":
			depth--
		}
		if begins = t.text == "," && depth == 0; !begins {
			found[len(found)-1].to = t.end
		}
	}
	return found
}

// alter is one command of an ALTER TABLE.
type alter struct {
	*run
	table    name
	cmd      node
	from, to int // its place in the chunk's text
}

func (a alter) report(rule, subject string) { a.findPart(a.from, a.to, rule, subject) }

// column is the name of the command's column, with the table's.
func (a alter) column() string { return part(a.table, a.cmd.str("name")) }

// judge is for what is in use, of which rows may be stored or not.
func (a alter) judge(stored bool) {
	subtype := a.cmd.str("subtype")
	// The other's lock lets readers and writers pass.
	a.locked(subtype != "AT_ValidateConstraint" && subtype != "AT_SetStatistics")
	if a.cmd.str("behavior") == "DROP_CASCADE" {
		a.report(cascade, "")
	}
	switch subtype {
	case "AT_AddColumn":
		a.addColumn(a.cmd.is("def", "ColumnDef"))
	case "AT_DropColumn":
		a.report(dropColumn, a.column())
	case "AT_AlterColumnType":
		a.alterType(stored)
	case "AT_SetNotNull":
		if !a.world.table(a.table).neverNull(a.cmd.str("name")) {
			a.report(setNotNull, a.column())
		}
	case "AT_AddConstraint":
		a.constraint(a.cmd.is("def", "Constraint"), a.table.String())
	case "AT_ValidateConstraint":
		known, found := a.world.table(a.table).constraints[a.cmd.str("name")]
		if found && known.made == a.world.file && a.inTransaction() {
			a.report(validateInTransaction, a.cmd.str("name"))
		}
	case "AT_SetLogged", "AT_SetUnLogged", "AT_SetAccessMethod", "AT_SetTableSpace", "AT_SetExpression":
		a.report(tableRewrite, a.table.String())
	case "AT_AttachPartition":
		a.attach(a.cmd.is("def", "PartitionCmd"))
	case "AT_DetachPartition", "AT_DetachPartitionFinalize":
		if a.cmd.is("def", "PartitionCmd").flag("concurrent") && a.inTransaction() {
			a.report(concurrentlyInTransaction, "")
		}
	}
}

func (a alter) addColumn(def node) {
	subject := part(a.table, def.str("colname"))
	columnKind := kindOf(def.get("typeName"))
	var notNull, filled bool
	if columnKind.serial() {
		filled = true
		a.report(tableRewrite, subject+" draws a number for each row")
	}
	if o := a.world.others[a.world.words(def.get("typeName").words("names"))]; o != nil && o.strict {
		a.report(tableRewrite, subject+" has a domain with constraints")
	}
	constraints := def.all("constraints", "Constraint")
	for _, c := range constraints {
		switch c.str("contype") {
		case "CONSTR_NOTNULL":
			notNull = true
		case "CONSTR_DEFAULT":
			filled = c.get("raw_expr").get("A_Const") == nil || !c.get("raw_expr").get("A_Const").flag("isnull")
			if called := a.world.volatile(c.get("raw_expr")); called != "" {
				a.report(tableRewrite, subject+" gets its default from "+called+", which may differ for each row")
			}
		case "CONSTR_IDENTITY":
			filled = true
			a.report(tableRewrite, subject+" draws a number for each row")
		case "CONSTR_GENERATED":
			filled = true
			a.report(tableRewrite, subject+" is computed for each row")
		}
	}
	if notNull && !filled {
		a.report(addColumnNotNull, subject)
	}
	for _, c := range constraints {
		// A column that is null everywhere refers to nothing: Postgres doesn't look.
		if c.str("contype") == "CONSTR_FOREIGN" && !filled {
			continue
		}
		a.constraint(c, subject)
	}
}

// constraint judges one that is added to a table, or stands beside a column that is.
func (a alter) constraint(c node, subject string) {
	if named := c.str("conname"); named != "" {
		subject += " " + named
	}
	rule := ""
	switch c.str("contype") {
	case "CONSTR_CHECK":
		rule = checkConstraint
	case "CONSTR_FOREIGN":
		rule = foreignKey
	case "CONSTR_UNIQUE":
		rule = uniqueConstraint
	case "CONSTR_PRIMARY":
		rule = primaryKey
	case "CONSTR_EXCLUSION":
		rule = exclusionConstraint
	}
	if rule != "" && !c.flag("skip_validation") && c.str("indexname") == "" {
		a.report(rule, subject)
	}
}

func (a alter) alterType(stored bool) {
	def := a.cmd.is("def", "ColumnDef")
	from := a.world.table(a.table).columns[a.cmd.str("name")]
	to := kindOf(def.get("typeName"))
	if def.get("raw_default") == nil && def.get("collClause") == nil && from.widens(to) {
		return
	}
	if stored {
		a.report(tableRewrite, a.column())
	}
	a.report(typeChange, a.column())
}

func (a alter) attach(cmd node) {
	child := a.world.relation(cmd.get("name"))
	if !a.world.newTable(child) && !a.world.table(child).checked() {
		a.report(attachPartition, child.String())
	}
}

// learn keeps what the command did.
func (a alter) learn() {
	t := a.world.table(a.table)
	named := a.cmd.str("name")
	switch a.cmd.str("subtype") {
	case "AT_AddColumn":
		t.add(a.world.file, a.cmd.is("def", "ColumnDef"))
	case "AT_DropColumn":
		delete(t.columns, named)
	case "AT_AlterColumnType":
		t.columns[named] = kindOf(a.cmd.is("def", "ColumnDef").get("typeName"))
	case "AT_AddConstraint":
		t.constrain(a.world.file, a.cmd.is("def", "Constraint"))
	case "AT_ValidateConstraint":
		c := t.constraints[named]
		c.valid = true
		t.constraints[named] = c
	case "AT_DropConstraint":
		delete(t.constraints, named)
		if a.cmd.flag("missing_ok") {
			a.dropped = append(a.dropped, named)
		}
	}
}

// attribute tells a kind of object in words.
func attribute(kind string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(kind, "OBJECT_")), "_", " ")
}
