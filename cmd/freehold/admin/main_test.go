package admin_test

import (
	"testing"

	"go.uber.org/goleak"

	"freehold/cmd/freehold/admin"
	"freehold/cmd/freehold/metrics"
	"freehold/cmd/freehold/rest"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/migrations/pgtest"
)

// The server's own keepers of pools and of the date live as long as the process.
func TestMain(m *testing.M) {
	pgtest.MainLeak(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

const token = "operators-token-of-the-tests"

// bench is a node with the operators' door.
type bench struct {
	*resttest.Platform
	door   *rest.Door
	client resttest.Client
}

func setup(t *testing.T) *bench {
	t.Helper()
	b := &bench{Platform: resttest.Open(t)}
	var err error
	b.door, err = admin.New(admin.Config{
		Catalog: b.Catalog, Cache: b.Cache, Fleet: b.Fleet, Router: b.Router, Token: token, Logger: b.Logger, Version: "test",
		PublicURL: "https://admin.example.com", NodeName: "test", Metrics: metrics.New("test", b.Router.View).Text,
	})
	url := b.Serve(b.door, err)
	b.client = resttest.Client{T: t, URL: url, Token: token}
	return b
}
