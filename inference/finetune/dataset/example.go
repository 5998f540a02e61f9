package dataset

import (
	"cmp"
	"slices"
	"strings"
)

// example is one line that was found good. Raw values are parts of the line.
type example struct {
	messages []message
	rest     []member // tools and the like, sorted by name
}

type message struct {
	role    string
	content []byte   // nil: null, or none
	rest    []member // sorted by name, without nulls
	text    string   // of content: the string, or its parts joined by line breaks
	learn   bool     // an assistant's, of a weight that isn't 0
	calls   bool     // an assistant's, with calls of tools or of a function
}

// answer is the index of the last message that is learnt from.
func (ex *example) answer() int {
	for i, m := range slices.Backward(ex.messages) {
		if m.learn {
			return i
		}
	}
	return -1
}

// allowed has what a message of each role may hold besides role and content.
var allowed = map[string][]string{
	"system":    {"name"},
	"developer": {"name"},
	"user":      {"name"},
	"assistant": {"name", "weight", "tool_calls", "function_call", "refusal"},
	"tool":      {"name", "tool_call_id"},
	"function":  {"name"},
}

const roles = "system, developer, user, assistant, tool, function"

// check gathers what is wrong with a line.
type check struct {
	n    int
	list []*LineError
}

func (c *check) fail(code, format string, args ...any) bool {
	c.list = append(c.list, flaw(c.n, code, format, args...))
	return false
}

// readLine reads line n. Of a message it tells the first thing that is wrong.
func readLine(n int, raw []byte) (*example, []*LineError) {
	if e := checkJSON(n, raw); e != nil {
		return nil, []*LineError{e}
	}
	c := &check{n: n}
	raw = raw[skipSpace(raw, 0):]
	if raw[0] != '{' {
		c.fail(CodeDataType, "The line is %s. Each line must be an object, {\"messages\": […]}.", kindOf(raw))
		return nil, c.list
	}
	ex := &example{}
	var messages []byte
	old := 0
	for _, m := range members(raw) {
		switch m.name {
		case "messages":
			messages = m.value
			continue
		case "tools", "functions":
			if !m.null() && c.tools(m) {
				ex.rest = append(ex.rest, m)
			}
		case "parallel_tool_calls":
			if v := m.value[0]; v == 't' || v == 'f' {
				ex.rest = append(ex.rest, m)
			} else if !m.null() {
				c.fail(CodeWrongType, `"parallel_tool_calls" must be true or false.`)
			}
		case "prompt", "completion":
			old++
			fallthrough
		default:
			c.fail(CodeExampleKey, "The example has %s, which is none of messages, tools, parallel_tool_calls, functions.", called(m.name))
		}
	}
	switch {
	case messages == nil && old == 2:
		c.list = c.list[:0]
		c.fail(CodeNoMessages, `The example has "prompt" and "completion" instead of "messages": chat models learn from messages with roles.`)
	case messages == nil, messages[0] == 'n':
		c.fail(CodeNoMessages, `The example has no "messages".`)
	case messages[0] != '[':
		c.fail(CodeWrongType, `"messages" must be an array.`)
	default:
		c.messages(ex, messages)
	}
	slices.SortFunc(ex.rest, byName)
	return ex, c.list
}

func byName(a, b member) int { return cmp.Compare(a.name, b.name) }

func kindOf(raw []byte) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

func (c *check) messages(ex *example, raw []byte) {
	list := elements(raw)
	if len(list) == 0 {
		c.fail(CodeNoMessages, `"messages" is empty.`)
		return
	}
	assistants, learnt, whole := 0, 0, true
	for i, raw := range list {
		m := message{}
		whole = c.message(i, raw, &m) && whole
		if m.role == "assistant" {
			assistants++
		}
		if m.learn {
			learnt++
		}
		ex.messages = append(ex.messages, m)
	}
	last := ex.messages[len(ex.messages)-1].role
	switch {
	case assistants == 0 && whole:
		c.fail(CodeNoAssistant, "The example has no assistant message: there is nothing to learn from it.")
	case !whole: // what is wrong with a message may be why
	case learnt == 0:
		c.fail(CodeNoAssistant, "All assistant messages of the example have the weight 0: there is nothing to learn from it.")
	case last != "assistant":
		c.fail(CodeLastMessage, "The last message of the example isn't the assistant's: nothing answers it.")
	}
}

// message reads the message at i and reports whether all is well with it. The role
// is set as soon as it is known.
func (c *check) message(i int, raw []byte, m *message) bool {
	if raw[0] != '{' {
		return c.fail(CodeDataType, "messages[%d] is %s. It must be an object with a role and a content.", i, kindOf(raw))
	}
	all := members(raw)
	var role, content []byte
	for _, x := range all {
		switch x.name {
		case "role":
			role = x.value
		case "content":
			content = x.value
		default:
			if !x.null() {
				m.rest = append(m.rest, x)
			}
		}
	}
	slices.SortFunc(m.rest, byName)
	if role == nil {
		return c.fail(CodeMissingKey, `messages[%d] has no "role".`, i)
	}
	name, _ := textOf(role)
	may, known := allowed[name]
	if !known {
		return c.fail(CodeUnrecognizedRole, "messages[%d] has a role that is none of %s.", i, roles)
	}
	m.role = name
	for _, x := range all {
		switch {
		case x.name == "role", x.name == "content", slices.Contains(may, x.name), x.null() && optional[x.name]:
		case x.name == "weight":
			return c.fail(CodeInvalidWeight, "messages[%d] has a weight, which only an assistant's message can have.", i)
		default:
			return c.fail(CodeUnrecognizedKey, "messages[%d] has %s, which is none of role, content, %s: those of a message of this role.",
				i, called(x.name), strings.Join(may, ", "))
		}
	}
	for _, x := range m.rest {
		if !c.member(i, m, x) {
			return false
		}
	}
	if need := needs[name]; need != "" && !has(m.rest, need) {
		return c.fail(CodeMissingKey, `messages[%d] has no %q, which a message of this role must have.`, i, need)
	}
	m.learn = name == "assistant" && !slices.ContainsFunc(m.rest, func(x member) bool { return x.name == "weight" && x.value[0] == '0' })
	m.calls = has(m.rest, "tool_calls") || has(m.rest, "function_call")
	return c.content(i, m, content, m.calls || has(m.rest, "refusal"))
}

// needs has what a message of a role can't be without.
var needs = map[string]string{"tool": "tool_call_id", "function": "name"}

func has(list []member, name string) bool {
	return slices.ContainsFunc(list, func(m member) bool { return m.name == name })
}

// optional are the members that a message of some role may have: data that was a
// table has them all in each message, and null where there is none.
var optional = map[string]bool{
	"name": true, "weight": true, "tool_calls": true, "function_call": true, "refusal": true, "tool_call_id": true,
}

// content reads a message's content, which may be missing where something else says
// what the assistant did: then it is to spare.
func (c *check) content(i int, m *message, raw []byte, spare bool) bool {
	if raw == nil || raw[0] == 'n' {
		switch {
		case spare:
			return true
		case raw == nil:
			return c.fail(CodeMissingKey, `messages[%d] has no "content".`, i)
		}
		return c.fail(CodeMissingContent, `messages[%d] has the content null.`, i)
	}
	switch raw[0] {
	case '"':
		m.text, _ = textOf(raw)
	case '[':
		text, ok := c.parts(i, raw)
		if !ok {
			return false
		}
		m.text = text
	default:
		return c.fail(CodeMissingContent, "messages[%d] has a content that is %s. It must be a string or an array of text parts.", i, kindOf(raw))
	}
	m.content = raw
	// A tool may well return nothing.
	if !spare && m.role != "tool" && m.role != "function" && strings.TrimSpace(m.text) == "" {
		return c.fail(CodeMissingContent, "messages[%d] has an empty content.", i)
	}
	return true
}

// parts are joined by line breaks, as the API reads them.
func (c *check) parts(i int, raw []byte) (string, bool) {
	var texts []string
	for k, part := range elements(raw) {
		if part[0] != '{' {
			return "", c.fail(CodeWrongType, "messages[%d].content[%d] is %s. It must be an object.", i, k, kindOf(part))
		}
		kind, text, known := "", "", true
		for _, m := range members(part) {
			switch m.name {
			case "type":
				kind, _ = textOf(m.value)
			case "text":
				var ok bool
				if text, ok = textOf(m.value); !ok {
					return "", c.fail(CodeWrongType, "messages[%d].content[%d].text must be a string.", i, k)
				}
			default:
				known = false
			}
		}
		if kind != "text" || !known {
			return "", c.fail(CodeUnsupportedPart, "messages[%d].content[%d] is no text part, {\"type\": \"text\", \"text\": …}. Others can't be learnt from here.", i, k)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "\n"), true
}
