package rest_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"freehold/cmd/freehold/rest"
)

// The document is valid and is made from what is mounted.
func TestDocument(t *testing.T) {
	t.Parallel()
	long := post("/long")
	long.Endpoint = rest.TakeLong(http.StatusCreated, func(context.Context, nobody, *rest.Request, struct{}) (struct{}, bool, error) {
		return struct{}{}, true, nil
	})
	b := setup(t, long, post("/things"), stream("/events/{id}", nil), get("/models/{name...}", nil))
	doc, err := openapi3.NewLoader().LoadFromData([]byte(b.do("GET", "/openapi.json", "").body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/things", "/events/{id}", "/models/{name}", "/healthz", "/readyz", "/openapi.json"} {
		if doc.Paths.Find(path) == nil {
			t.Errorf("%s isn't documented", path)
		}
	}
	in := doc.Paths.Find("/things").Post.RequestBody.Value.Content["application/json"].Schema.Value
	if len(in.Required) != 1 || in.Required[0] != "name" || !in.Properties["color"].Value.Nullable {
		t.Errorf("body: required %v, %v", in.Required, in.Properties)
	}
	may := doc.Paths.Find("/long").Post
	if may.Responses.Value("201") == nil || may.Responses.Value("202") == nil || may.Parameters.GetByInAndName("header", "Prefer") == nil {
		t.Error("the answer of one who doesn't wait isn't documented")
	}
	if doc.Paths.Find("/events/{id}").Post.Responses.Value("200").Value.Content["text/event-stream"] == nil {
		t.Error("the stream isn't documented")
	}
}
