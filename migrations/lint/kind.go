package lint

import (
	"slices"
	"strings"
)

// kind is the type of a column.
type kind struct {
	name  string
	mods  []int
	plain bool // not an array, and all of mods are numbers
}

func kindOf(typeName node) kind {
	words := typeName.words("names")
	if len(words) == 0 {
		return kind{}
	}
	k := kind{name: words[len(words)-1], plain: len(typeName.list("arrayBounds")) == 0}
	if len(words) > 1 && words[0] != "pg_catalog" {
		k.name = strings.Join(words, ".")
	}
	mods := typeName.all("typmods", "A_Const")
	for _, mod := range mods {
		if mod.get("ival") == nil {
			k.plain = false
		}
		k.mods = append(k.mods, mod.get("ival").number("ival"))
	}
	if len(typeName.list("typmods")) != len(mods) {
		k.plain = false
	}
	return k
}

// widens tells whether each value of k is one of wider as it is stored, and is written
// alike: neither table nor index is touched, and the previous release sees no difference.
func (k kind) widens(wider kind) bool {
	if !k.plain || !wider.plain || k.name == "" {
		return false
	}
	switch k.name {
	case "varchar":
		return wider.name == "text" || wider.name == "varchar" && k.longer(wider)
	case "text":
		return wider.name == "text" || wider.name == "varchar" && wider.mods == nil
	case "varbit":
		return wider.name == "varbit" && k.longer(wider)
	case "numeric":
		if wider.name != "numeric" {
			return false
		}
		return wider.mods == nil || len(k.mods) > 0 && k.mods[0] <= wider.mods[0] && k.scale() == wider.scale()
	case "timestamp", "timestamptz", "time", "timetz":
		return wider.name == k.name && k.longer(wider)
	}
	return k.name == wider.name && slices.Equal(k.mods, wider.mods)
}

// longer tells whether the first number of wider is no lower. None is the highest.
func (k kind) longer(wider kind) bool {
	return len(wider.mods) == 0 || len(k.mods) > 0 && k.mods[0] <= wider.mods[0]
}

func (k kind) scale() int {
	if len(k.mods) < 2 {
		return 0
	}
	return k.mods[1]
}

// serial types draw a number for each row.
func (k kind) serial() bool {
	return slices.Contains([]string{
		"serial", "serial2", "serial4", "serial8", "smallserial", "bigserial",
	}, k.name)
}

// volatile names a function in an expression that may give each row another value, ""
// when there is none. One that isn't known is taken for one that may, which is what
// Postgres takes a new function for.
func (w *world) volatile(expression node) string {
	var found []string
	walk(expression, func(at string, n node) bool {
		switch at {
		case "NextValueExpr":
			found = append(found, "nextval")
		case "FuncCall":
			words := n.words("funcname")
			called := words[len(words)-1]
			builtin := len(words) == 1 || words[0] == "pg_catalog"
			if builtin && slices.Contains(steady, called) {
				break
			}
			if o := w.others[w.words(words)]; o != nil && o.steady {
				break
			}
			found = append(found, strings.Join(words, "."))
		}
		return true
	})
	if found == nil {
		return ""
	}
	slices.Sort(found)
	return found[0]
}

// steady are functions of Postgres that people use in defaults and that have one value
// within a statement.
var steady = []string{
	"abs", "age", "array_fill", "array_to_string", "btrim", "ceil", "ceiling", "concat", "concat_ws", "convert_from",
	"convert_to", "current_database", "current_schema", "current_setting", "date_bin", "date_part", "date_trunc",
	"decode", "encode", "extract", "floor", "format", "hashtext", "int4range", "int8range",
	"json_build_array", "json_build_object", "jsonb_build_array", "jsonb_build_object", "length", "lower", "lpad",
	"ltrim", "make_date", "make_interval", "make_time", "make_timestamp", "make_timestamptz", "md5", "now",
	"numrange", "overlay", "pg_current_xact_id", "position", "repeat", "replace", "round", "rpad", "rtrim", "sha256",
	"sha512", "split_part", "statement_timestamp", "string_to_array", "substr", "substring", "timezone", "to_char",
	"to_date", "to_json", "to_jsonb", "to_number", "to_timestamp", "to_tsvector", "transaction_timestamp",
	"translate", "trunc", "tsrange", "tstzrange", "upper",
}
