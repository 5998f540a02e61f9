package lint

// node is a part of the parser's tree, as its JSON has it. The names of its fields are
// those of PostgreSQL's parse nodes. A field that can be of several kinds holds a node
// with one entry, the kind's name.
type node map[string]any

func (n node) str(field string) string {
	s, _ := n[field].(string)
	return s
}

func (n node) flag(field string) bool {
	b, _ := n[field].(bool)
	return b
}

func (n node) number(field string) int {
	f, _ := n[field].(float64)
	return int(f)
}

// get is the node in a field, nil where there is none.
func (n node) get(field string) node {
	m, _ := n[field].(map[string]any)
	return m
}

// is gives the node in a field when it is of that kind, else nil.
func (n node) is(field, kind string) node { return n.get(field).get(kind) }

// list are the nodes in a field.
func (n node) list(field string) []node {
	items, _ := n[field].([]any)
	nodes := make([]node, 0, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			nodes = append(nodes, m)
		}
	}
	return nodes
}

// all are the nodes of one kind in a field.
func (n node) all(field, kind string) []node {
	var found []node
	for _, item := range n.list(field) {
		if inner := item.get(kind); inner != nil {
			found = append(found, inner)
		}
	}
	return found
}

// words are the names in a field, such as those of a qualified name.
func (n node) words(field string) []string {
	var words []string
	for _, s := range n.all(field, "String") {
		words = append(words, s.str("sval"))
	}
	return words
}

// option finds the DefElem with that name in a field.
func (n node) option(field, name string) node {
	for _, option := range n.all(field, "DefElem") {
		if option.str("defname") == name {
			return option
		}
	}
	return nil
}

// constant is the text of a constant in quotes, and whether it is one.
func (n node) constant() (string, bool) {
	text := n.get("A_Const").get("sval")
	return text.str("sval"), text != nil
}

// walk calls f for each node below n with the name it stands under, which is a kind or
// a field, until f says that it need not see what is inside.
func walk(n node, f func(name string, n node) (inside bool)) {
	for name, value := range n {
		switch value := value.(type) {
		case map[string]any:
			if f(name, value) {
				walk(value, f)
			}
		case []any:
			for _, item := range value {
				if m, ok := item.(map[string]any); ok {
					walk(m, f)
				}
			}
		}
	}
}
