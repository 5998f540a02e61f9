package lint

import (
	"regexp"
	"slices"
	"strings"

	"freehold/migrations"
)

// The product's migrations keep out of these.
const (
	ownSchema     = "freehold"
	versionSchema = "product" // holds the table that counts the product's migrations
	ownRoles      = "freehold_"
)

// Fields of the parser's tree that hold a name with its schema.
var qualified = []string{
	"names", "funcname", "objname", "items", "typeName", "defnames", "domainname", "opclassname", "collname",
}

// inText finds names in Freehold's schema inside of a function's body.
var inText = regexp.MustCompile(`(?i)(^|[^\w$."])"?` + ownSchema + `"?\s*\.\s*["a-z_]`)

// outside reports a statement of the product's that touches what is Freehold's: its
// schema, its group roles, or the schema where the product's migrations are counted.
// Tenants' group may be granted something, and named in policies.
func (r *run) outside(n node) {
	if r.stream != StreamProduct {
		return
	}
	for _, subject := range foreign(n, r.at.kind) {
		r.find(freeholdSchema, subject)
	}
}

func foreign(n node, kind string) []string {
	var found []string
	if kind == "CreateFunctionStmt" || kind == "DoStmt" {
		options := slices.Concat(n.all("options", "DefElem"), n.all("args", "DefElem"))
		for _, option := range options {
			found = append(found, inBody(option)...)
		}
	}
	whole := node{kind: map[string]any(n)}
	walk(whole, func(at string, n node) bool {
		found = append(found, foreignNames(n)...)
		found = append(found, foreignRoles(at, n)...)
		if objects := n.list("objects"); at == "GrantStmt" || at == "DropStmt" || at == "DefElem" {
			kind := n.str("objtype") + n.str("removeType") + n.str("targtype")
			schemas := strings.Contains(kind, "OBJECT_SCHEMA") || strings.Contains(kind, "ALL_IN_SCHEMA")
			if n.str("defname") == "schemas" {
				objects, schemas = n.is("arg", "List").list("items"), true
			}
			for _, object := range objects {
				if schema := object.get("String").str("sval"); schemas && taken(schema) {
					found = append(found, "schema "+schema)
				}
			}
		}
		return true
	})
	switch {
	case kind == "CommentStmt" && n.str("objtype") == "OBJECT_SCHEMA" && taken(n.is("object", "String").str("sval")),
		kind == "AlterOwnerStmt" && n.str("objectType") == "OBJECT_SCHEMA" && taken(n.is("object", "String").str("sval")),
		kind == "RenameStmt" && n.str("renameType") == "OBJECT_SCHEMA" && (taken(n.str("subname")) || taken(n.str("newname"))):
		found = append(found, "schema")
	case kind == "VariableSetStmt" && identity(n.str("name")):
		for _, arg := range n.list("args") {
			if role, ok := arg.constant(); ok && strings.HasPrefix(role, ownRoles) {
				found = append(found, "role "+role)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func taken(schema string) bool { return schema == ownSchema || schema == versionSchema }

// foreignNames are the names in a node that are Freehold's.
func foreignNames(n node) []string {
	var found []string
	if schema := n.str("schemaname"); taken(schema) {
		found = append(found, strings.TrimSuffix(schema+"."+n.str("relname"), "."))
	}
	if schema := n.str("newschema"); taken(schema) {
		found = append(found, schema)
	}
	for _, field := range qualified {
		words := n.words(field)
		if len(words) > 1 && taken(words[0]) {
			found = append(found, strings.Join(words, "."))
		}
	}
	return found
}

// foreignRoles are Freehold's roles in a node, but tenants' group where it is given
// something.
func foreignRoles(at string, n node) []string {
	var found []string
	name := func(role node, given bool) {
		named := role.str("rolename")
		if strings.HasPrefix(named, ownRoles) && (!given || named != migrations.RoleTenant) {
			found = append(found, "role "+named)
		}
	}
	for field := range n {
		given := field == "grantees" || field == "roles" && strings.HasSuffix(at, "PolicyStmt")
		for _, role := range n.all(field, "RoleSpec") {
			name(role, given)
		}
		if role := n.get(field); role.str("roletype") != "" {
			name(role, false)
		}
	}
	return found
}

// inBody looks into a body that is a string.
func inBody(option node) []string {
	if option.str("defname") != "as" {
		return nil
	}
	texts := option.is("arg", "List").words("items")
	if s := option.is("arg", "String"); s != nil {
		texts = append(texts, s.str("sval"))
	}
	if slices.ContainsFunc(texts, inText.MatchString) {
		return []string{"schema " + ownSchema + " in the body"}
	}
	return nil
}
