package rest

import (
	"cmp"
	"maps"
	"net/http"
	"reflect"
	"strconv"
	"strings"
)

// operation is what the document says of a route.
type operation struct {
	method, path, scope, summary string
	query                        []Query
	in, out                      reflect.Type
	status                       int
	media                        string // of the answer; empty: JSON
	form                         string // media type of the body; empty: JSON
	later                        bool   // it may be answered 202, with the same body
	streams, public, once        bool
}

func (d *Door) document(op operation) { d.ops = append(d.ops, op) }

// openAPI makes the door's document from what is mounted, in the form of
// OpenAPI 3.0.3.
func (d *Door) openAPI() map[string]any {
	paths := map[string]map[string]any{}
	for _, op := range d.ops {
		path := strings.ReplaceAll(op.path, "...}", "}")
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][strings.ToLower(op.method)] = op.describe()
	}
	version := d.cfg.Version
	if version == "" {
		version = "devel"
	}
	doc := map[string]any{
		"openapi": "3.0.3",
		"info":    map[string]any{"title": d.cfg.Title, "version": version},
		"paths":   paths,
		"components": map[string]any{
			"securitySchemes": map[string]any{"bearer": map[string]any{"type": "http", "scheme": "bearer"}},
			"schemas":         map[string]any{"Error": schema(reflect.TypeFor[errorBody]())},
		},
		"security": []any{map[string]any{"bearer": []any{}}},
	}
	if d.cfg.PublicURL != "" {
		doc["servers"] = []any{map[string]any{"url": d.cfg.PublicURL}}
	}
	return doc
}

// errorBody is Error.body as a type, for the document.
type errorBody struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	} `json:"error"`
}

func (op operation) describe() map[string]any {
	answers := map[string]any{cmp.Or(op.media, mediaJSON): map[string]any{"schema": schema(op.out)}}
	if op.streams {
		answers["text/event-stream"] = map[string]any{"schema": map[string]any{"type": "string"}}
	}
	o := map[string]any{
		"operationId": op.id(),
		"summary":     op.summary,
		"responses": map[string]any{
			strconv.Itoa(op.status): map[string]any{"description": http.StatusText(op.status), "content": answers},
			"default": map[string]any{
				"description": "An error",
				"content":     map[string]any{"application/json": map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/Error"}}},
			},
		},
	}
	if op.later {
		o["responses"].(map[string]any)[strconv.Itoa(http.StatusAccepted)] = map[string]any{ //nolint:forcetypeassert // made above
			"description": http.StatusText(http.StatusAccepted), "content": answers,
		}
	}
	if params := op.parameters(); len(params) > 0 {
		o["parameters"] = params
	}
	if op.in != nil {
		o["requestBody"] = map[string]any{
			"required": true,
			"content":  map[string]any{cmp.Or(op.form, mediaJSON): map[string]any{"schema": schema(op.in)}},
		}
	}
	if op.scope != "" {
		o["description"] = "Needs the scope `" + op.scope + "`."
	}
	if op.public {
		o["security"] = []any{}
	}
	return o
}

func (op operation) parameters() []any {
	var list []any
	for segment := range strings.SplitSeq(op.path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
			list = append(list, parameter("path", name, "string", "", true))
		}
	}
	for _, q := range op.query {
		list = append(list, parameter("query", q.Name, q.Type, q.Summary, false))
	}
	if op.once {
		list = append(list, parameter("header", "Idempotency-Key", "string", "The same request under the same key, within a day, is done once.", false))
	}
	if op.later {
		list = append(list, parameter("header", "Prefer", "string", "respond-async: don't wait, answer 202.", false))
	}
	return list
}

func parameter(in, name, typ, summary string, required bool) map[string]any {
	p := map[string]any{"in": in, "name": name, "required": required, "schema": map[string]any{"type": typ}}
	if summary != "" {
		maps.Copy(p, map[string]any{"description": summary})
	}
	return p
}

// id names an operation after its route: getV1ModelsName. A hyphen stays, as an
// underscore: paths that differ in that alone are others.
func (op operation) id() string {
	var b strings.Builder
	b.WriteString(strings.ToLower(op.method))
	for word := range strings.FieldsFuncSeq(op.path, func(r rune) bool { return strings.ContainsRune("/{}._", r) }) {
		b.WriteString(strings.ToUpper(word[:1]) + strings.ReplaceAll(word[1:], "-", "_"))
	}
	return b.String()
}
