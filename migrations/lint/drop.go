package lint

// drop judges DROP of anything that belongs to a schema, or is one.
func (r *run) drop(n node) {
	kind := n.str("removeType")
	for _, object := range n.list("objects") {
		r.dropOne(kind, object, n)
	}
	if kind == "OBJECT_INDEX" {
		r.concurrently(n.flag("concurrent"))
	}
	r.cascades(n)
}

func (r *run) dropOne(kind string, object, n node) {
	words := objectWords(object)
	target := r.world.words(words)
	switch kind {
	case "OBJECT_TABLE", "OBJECT_FOREIGN_TABLE", "OBJECT_SEQUENCE":
		if !r.world.newTable(target) && !r.world.newOther(target) {
			r.locks = true
			r.find(dropTable, target.String())
		}
		delete(r.world.tables, target)
	case "OBJECT_INDEX":
		if n.flag("missing_ok") {
			r.dropped = append(r.dropped, target.object)
		}
		if !n.flag("concurrent") && !r.world.newIndex(target) {
			r.locks = true
			r.find(dropIndexNotConcurrently, target.String())
		}
		delete(r.world.indexes, target)
	case "OBJECT_VIEW", "OBJECT_MATVIEW":
		if !r.world.newTable(target) && !r.world.newOther(target) {
			r.find(dropView, target.String())
		}
		delete(r.world.tables, target)
	case "OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE", "OBJECT_AGGREGATE":
		if !r.world.newOther(target) {
			r.find(dropFunction, target.String())
		}
	case "OBJECT_TYPE", "OBJECT_DOMAIN":
		if !r.world.newOther(target) {
			r.find(dropType, target.String())
		}
	case "OBJECT_SCHEMA":
		if !r.world.newSchema(words[0]) {
			r.find(dropSchema, words[0])
		}
		delete(r.world.schemas, words[0])
	case "OBJECT_EXTENSION":
		r.find(extension, words[0])
	case "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY":
		// The last word is its own, those before it are the table's.
		table := r.world.words(words[:len(words)-1])
		inUse := !r.world.newTable(table)
		r.locked(inUse)
		if inUse && kind != "OBJECT_POLICY" {
			r.find(trigger, table.String())
		}
	}
	delete(r.world.others, target)
}

// objectWords is the name of an object of whatever kind.
func objectWords(object node) []string {
	if s := object.get("String"); s != nil {
		return []string{s.str("sval")}
	}
	if with := object.get("ObjectWithArgs"); with != nil {
		return with.words("objname")
	}
	if typeName := object.get("TypeName"); typeName != nil {
		return typeName.words("names")
	}
	return object.get("List").words("items")
}

// rename judges a new name for a thing that the previous release calls by the old one.
func (r *run) rename(n node) {
	kind := n.str("renameType")
	subject := r.world.relation(n.get("relation"))
	renamed := name{subject.schema, n.str("newname")}
	switch kind {
	case "OBJECT_COLUMN", "OBJECT_ATTRIBUTE":
		r.renameColumn(n, subject)
	case "OBJECT_TABLE", "OBJECT_FOREIGN_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_SEQUENCE":
		if !r.world.newTable(subject) && !r.world.newOther(subject) {
			r.locks = true
			r.find(renameTable, subject.String())
		}
		r.world.rename(subject, renamed)
	case "OBJECT_INDEX":
		r.world.rename(subject, renamed)
	case "OBJECT_SCHEMA":
		if !r.world.newSchema(n.str("subname")) {
			r.find(renameSchema, n.str("subname"))
		}
	case "OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE", "OBJECT_AGGREGATE", "OBJECT_TYPE", "OBJECT_DOMAIN":
		r.renameObject(kind, n)
	}
}

func (r *run) renameColumn(n node, table name) {
	if !r.world.newTable(table) && !r.world.newOther(table) {
		r.locks = true
		r.find(renameColumn, part(table, n.str("subname")))
	}
	t := r.world.table(table)
	if known, found := t.columns[n.str("subname")]; found {
		t.columns[n.str("newname")] = known
		delete(t.columns, n.str("subname"))
	}
}

// renameObject judges those that aren't relations.
func (r *run) renameObject(kind string, n node) {
	subject := r.world.words(objectWords(n.get("object")))
	if !r.world.newOther(subject) {
		r.find(renameObject, attribute(kind)+" "+subject.String())
	}
	r.world.rename(subject, name{subject.schema, n.str("newname")})
}

// moveSchema judges SET SCHEMA, which renames.
func (r *run) moveSchema(n node) {
	kind := n.str("objectType")
	relation := n.get("relation")
	if relation == nil {
		subject := r.world.words(objectWords(n.get("object")))
		if kind == "OBJECT_EXTENSION" || r.world.newOther(subject) {
			return
		}
		r.find(renameObject, attribute(kind)+" "+subject.String())
		return
	}
	subject := r.world.relation(relation)
	if !r.world.newTable(subject) && !r.world.newOther(subject) {
		r.locks = true
		r.find(renameTable, subject.String())
	}
	r.world.rename(subject, name{n.str("newschema"), subject.object})
}

// grant judges GRANT and REVOKE on objects.
func (r *run) grant(n node) {
	if n.flag("is_grant") {
		r.grantees(n)
		return
	}
	for _, object := range n.list("objects") {
		subject, isNew := r.granted(n, object)
		if !isNew {
			r.find(revoke, subject)
			return
		}
	}
}

// granted is one object of a GRANT, and whether this file made it.
func (r *run) granted(n, object node) (subject string, isNew bool) {
	if relation := object.get("RangeVar"); relation != nil {
		target := r.world.relation(relation)
		return target.String(), r.world.newTable(target) || r.world.newOther(target)
	}
	words := objectWords(object)
	if n.str("targtype") == "ACL_TARGET_ALL_IN_SCHEMA" || n.str("objtype") == "OBJECT_SCHEMA" {
		return "schema " + words[0], r.world.newSchema(words[0])
	}
	target := r.world.words(words)
	return target.String(), r.world.newOther(target)
}

func (r *run) grantees(n node) {
	if !n.flag("is_grant") {
		return
	}
	for _, role := range n.all("grantees", "RoleSpec") {
		if role.str("roletype") == "ROLESPEC_PUBLIC" {
			r.find(grantPublic, "")
		}
	}
}
