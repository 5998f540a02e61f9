package dataset

import "slices"

// member checks a message's member besides role and content.
func (c *check) member(i int, m *message, x member) bool {
	switch x.name {
	case "weight":
		if w := string(x.value); w != "0" && w != "1" {
			return c.fail(CodeInvalidWeight, "messages[%d].weight must be 0 or 1.", i)
		}
	case "tool_calls":
		if x.value[0] != '[' || len(elements(x.value)) == 0 {
			return c.fail(CodeWrongType, "messages[%d].tool_calls must be an array of calls.", i)
		}
		for k, call := range elements(x.value) {
			if !isCall(call) {
				return c.fail(CodeWrongType, `messages[%d].tool_calls[%d] must have an "id", the "type" function and a "function" with a name and with arguments, which are a string.`, i, k)
			}
		}
	case "function_call":
		if !isFunctionCall(x.value) {
			return c.fail(CodeWrongType, "messages[%d].function_call must be an object with a name and with arguments, which are a string.", i)
		}
	default: // name, tool_call_id, refusal
		if x.value[0] != '"' {
			return c.fail(CodeWrongType, "messages[%d].%s must be a string.", i, x.name)
		}
	}
	return true
}

// tools checks the tools, or the functions, that an example offers.
func (c *check) tools(m member) bool {
	if m.value[0] != '[' {
		return c.fail(CodeWrongType, "%q must be an array.", m.name)
	}
	for k, tool := range elements(m.value) {
		if m.name == "tools" && !isTool(tool) || m.name == "functions" && !isNamed(tool) {
			return c.fail(CodeWrongType, "%s[%d] must be an object with a name%s.", m.name, k,
				map[string]string{"tools": ` inside of "function"`}[m.name])
		}
	}
	return true
}

func isTool(raw []byte) bool {
	function, ok := child(raw, "function")
	return ok && isNamed(function) && isKind(raw, "function")
}

func isCall(raw []byte) bool {
	function, ok := child(raw, "function")
	return ok && isFunctionCall(function) && isKind(raw, "function") && isText(raw, "id")
}

func isFunctionCall(raw []byte) bool { return isNamed(raw) && isText(raw, "arguments") }

func isNamed(raw []byte) bool { return isText(raw, "name") }

func isKind(raw []byte, kind string) bool {
	value, ok := child(raw, "type")
	if !ok {
		return false
	}
	text, ok := textOf(value)
	return ok && text == kind
}

func isText(raw []byte, name string) bool {
	value, ok := child(raw, name)
	return ok && value[0] == '"'
}

// child is an object's member of that name.
func child(raw []byte, name string) ([]byte, bool) {
	if raw[0] != '{' {
		return nil, false
	}
	all := members(raw)
	i := slices.IndexFunc(all, func(m member) bool { return m.name == name })
	if i < 0 {
		return nil, false
	}
	return all[i].value, true
}
