package lint

import (
	"slices"
	"strings"
)

// name is that of an object, with its schema.
type name struct{ schema, object string }

func (n name) String() string {
	if n.schema == "" || n.schema == "public" {
		return n.object
	}
	return n.schema + "." + n.object
}

// world is what the files so far have made, as far as their text tells. An object is
// new while the file runs that made it: nobody else can see it yet.
type world struct {
	file    int    // counts the files
	path    string // the schema of names without one
	schemas map[string]int
	tables  map[name]*table
	indexes map[name]int
	others  map[name]*other // functions, types, views, sequences
}

type table struct {
	made        int // the file; 0: none of these
	partitioned bool
	columns     map[string]kind
	constraints map[string]constraint
}

type constraint struct {
	made    int
	valid   bool
	check   bool
	notNull []string // columns of which it says that, and nothing else may be true
}

// other is an object of which only little is known.
type other struct {
	made   int
	steady bool // a function that is not volatile
	strict bool // a domain with constraints
}

func newWorld() *world {
	return &world{
		schemas: map[string]int{}, tables: map[name]*table{}, indexes: map[name]int{}, others: map[name]*other{},
	}
}

// begin starts the next file.
func (w *world) begin() {
	w.file++
	w.path = "public"
}

// relation is the name in a RangeVar.
func (w *world) relation(n node) name {
	schema := n.str("schemaname")
	if n.str("relpersistence") == "t" {
		schema = temporary
	}
	return w.find(schema, n.str("relname"))
}

// temporary tables are found first where no schema is named.
const temporary = "pg_temp"

func (w *world) find(schema, object string) name {
	if schema != "" {
		return name{schema, object}
	}
	if w.tables[name{temporary, object}] != nil {
		return name{temporary, object}
	}
	return name{w.path, object}
}

// words is the object of a qualified name. A longer one has the database first.
func (w *world) words(words []string) name {
	switch len(words) {
	case 0:
		return name{}
	case 1:
		return w.find("", words[0])
	}
	return w.find(words[len(words)-2], words[len(words)-1])
}

// newSchema tells whether this file made the schema: all in it is new then.
func (w *world) newSchema(schema string) bool { return w.schemas[schema] == w.file }

func (w *world) newTable(n name) bool {
	t := w.tables[n]
	return w.newSchema(n.schema) || n.schema == temporary || t != nil && t.made == w.file
}

func (w *world) newIndex(n name) bool {
	return w.newSchema(n.schema) || w.indexes[n] == w.file
}

func (w *world) newOther(n name) bool {
	o := w.others[n]
	return w.newSchema(n.schema) || o != nil && o.made == w.file
}

// table is what is known of one, for something to be added.
func (w *world) table(n name) *table {
	t := w.tables[n]
	if t == nil {
		t = &table{columns: map[string]kind{}, constraints: map[string]constraint{}}
		w.tables[n] = t
	}
	return t
}

func (w *world) makeTable(n name) *table {
	t := w.table(n)
	t.made = w.file
	return t
}

func (w *world) makeOther(n name) *other {
	o := &other{made: w.file}
	w.others[n] = o
	return o
}

// rename moves what is known to another name.
func (w *world) rename(from, to name) {
	if t := w.tables[from]; t != nil {
		w.tables[to] = t
		delete(w.tables, from)
	}
	if made, found := w.indexes[from]; found {
		w.indexes[to] = made
		delete(w.indexes, from)
	}
	if o := w.others[from]; o != nil {
		w.others[to] = o
		delete(w.others, from)
	}
}

// neverNull tells whether a valid constraint says that the column isn't null, so that
// Postgres need not look at each row.
func (t *table) neverNull(column string) bool {
	for _, c := range t.constraints {
		if c.valid && slices.Contains(c.notNull, column) {
			return true
		}
	}
	return false
}

// checked tells whether the table has a check at all that is valid.
func (t *table) checked() bool {
	for _, c := range t.constraints {
		if c.valid && c.check {
			return true
		}
	}
	return false
}

// add learns a column and the constraints that stand beside it.
func (t *table) add(file int, column node) {
	name := column.str("colname")
	t.columns[name] = kindOf(column.get("typeName"))
	for _, c := range column.all("constraints", "Constraint") {
		t.constrain(file, c)
	}
}

// constrain learns a constraint.
func (t *table) constrain(file int, c node) {
	name := c.str("conname")
	if name == "" {
		if c.str("contype") != "CONSTR_CHECK" {
			return
		}
		name = "?" + strings.Repeat("?", len(t.constraints)) // Postgres makes one up
	}
	learned := constraint{made: file, valid: !c.flag("skip_validation"), check: c.str("contype") == "CONSTR_CHECK"}
	if learned.check {
		learned.notNull = notNulls(c.get("raw_expr"))
	}
	t.constraints[name] = learned
}

// notNulls are the columns that can't be null where an expression is true.
func notNulls(expression node) []string {
	if test := expression.get("NullTest"); test.str("nulltesttype") == "IS_NOT_NULL" {
		if fields := test.is("arg", "ColumnRef").words("fields"); len(fields) > 0 {
			return fields[len(fields)-1:]
		}
	}
	var columns []string
	if and := expression.get("BoolExpr"); and.str("boolop") == "AND_EXPR" {
		for _, part := range and.list("args") {
			columns = append(columns, notNulls(part)...)
		}
	}
	return columns
}
