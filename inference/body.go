package inference

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"unicode/utf8"
)

// maxDepth is how deep a body may nest: far deeper than any tool's schema, far
// less deep than what would trouble a decoder, here or in Postgres.
const maxDepth = 100

// object is a JSON object's members, as they came.
type object map[string]json.RawMessage

// readObject reads a body that must be one JSON object. It keeps nothing of body.
func readObject(body []byte) (object, error) {
	if !utf8.Valid(body) {
		return nil, &BadRequest{Message: "the body is not valid UTF-8"}
	}
	if tooDeep(body) {
		return nil, &BadRequest{Message: fmt.Sprintf("the body nests deeper than %d levels", maxDepth)}
	}
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, &BadRequest{Message: fmt.Sprintf("the body is not valid JSON (at byte %d)", syntax.Offset)}
		}
		return nil, &BadRequest{Message: "the body must be a JSON object"}
	}
	if o == nil {
		return nil, &BadRequest{Message: "the body must be a JSON object"}
	}
	o.dropNulls()
	return o, nil
}

// dropNulls treats a null member as one that is absent, as OpenAI does.
func (o object) dropNulls() {
	maps.DeleteFunc(o, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
}

// take removes a member and returns it, nil when there is none.
func (o object) take(name string) json.RawMessage {
	v := o[name]
	delete(o, name)
	return v
}

// names returns the members' names in order, so that of several mistakes the same
// one is always told first.
func (o object) names() []string { return slices.Sorted(maps.Keys(o)) }

func tooDeep(body []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// printable fits the names that an error may repeat.
var printable = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// unknown refuses a member that nobody knows. A name that looks like no name may
// be content in the wrong place and isn't repeated.
func unknown(at, name string) error {
	if !printable.MatchString(name) {
		return &BadRequest{Param: at, Message: "unknown parameter"}
	}
	if at != "" {
		at += "."
	}
	return &BadRequest{Param: at + name, Message: "unknown parameter: " + at + name}
}

// must says what is wanted at a place.
func must(at, want string) error {
	return &BadRequest{Param: at, Message: at + " " + want}
}

// place names an element of an array.
func place(at string, i int) string { return fmt.Sprintf("%s[%d]", at, i) }
