package e2e_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers is the import stack, lowest first. A package may import packages of its
// own folder and of folders on lower steps; folders that share a step are
// siblings and never import each other.
var layers = [][]string{
	{"migrations"},
	{"catalog"},
	{"tenantdb"},
	{"router", "inference"},
	{"cmd"},
	{"e2e"},
}

// keepers says which folders alone may import a package and those below it.
var keepers = []keeper{
	{of: "freehold/tenantdb/fleet", by: []string{"tenantdb/fleet", "cmd", "e2e"},
		why: "only fleet holds admin credentials, and router and inference never see it"},
	{of: "github.com/gofiber", by: []string{"cmd"},
		why: "HTTP ends in cmd"},
	{of: "github.com/valyala/fasthttp", by: []string{"cmd"},
		why: "HTTP ends in cmd"},
	{of: "github.com/aws", by: []string{"tenantdb/blob"},
		why: "every object key passes the one place that forces its prefix"},
	{of: "github.com/versity/versitygw", by: []string{"cmd/freehold/app", "tenantdb/blob/blobtest", "e2e/s3server"},
		why: "the embedded object store is a part of `freehold dev`, and the tests' stand-in for S3"},
	{of: "github.com/riverqueue", by: []string{"catalog/queue"},
		why: "River is wrapped once"},
	{of: "github.com/testcontainers", by: []string{"e2e"},
		why: "containers are for the end-to-end tests"},
	{of: "github.com/jackc", by: []string{"router", "catalog", "tenantdb", "migrations", "e2e"}, testsMay: true,
		why: "SQL ends in tenantdb; a test elsewhere may look at the rows it left"},
}

// unlinked are the packages that the shipped binary must not contain, besides
// those of ours whose name ends in "test".
var unlinked = []string{
	"freehold/e2e",
	"github.com/emersion/go-sasl",
	"github.com/emersion/go-smtp",
	"github.com/openai/openai-go",
	"github.com/stretchr/testify",
	"github.com/testcontainers",
	"go.uber.org/goleak",
	"pgregory.net/rapid",
}

// vague are the package names that say nothing about what is inside.
var vague = []string{"common", "helper", "helpers", "model", "models", "service", "types", "util", "utils"}

func TestImportStack(t *testing.T) {
	t.Parallel()
	report(t, repository(t).outOfStack())
}

func TestKeptImports(t *testing.T) {
	t.Parallel()
	report(t, repository(t).notKept(keepers))
}

func TestPackageNames(t *testing.T) {
	t.Parallel()
	report(t, repository(t).vaguelyNamed())
}

func TestShippedBinaryHasNoTestCode(t *testing.T) {
	t.Parallel()
	deps := strings.Fields(string(goList(t, "-deps", "./cmd/freehold")))
	if !slices.Contains(deps, "freehold/catalog") {
		t.Fatalf("the list of what is linked lacks freehold/catalog: %d packages", len(deps))
	}
	report(t, linkedTestCode(deps))
}

// TestLayersFindViolations holds the checks themselves: each fabricated
// repository breaks one rule, or comes close to it without breaking it.
func TestLayersFindViolations(t *testing.T) {
	t.Parallel()
	imports := func(from, to string) graph { return graph{{path: from, imports: []string{to}}} }
	tests := func(from, to string) graph { return graph{{path: from, testImports: []string{to}}} }
	cases := []struct {
		name  string
		graph graph
		want  int
	}{
		{"down the stack", imports("freehold/router", "freehold/catalog"), 0},
		{"up the stack", imports("freehold/catalog", "freehold/router"), 1},
		{"up the stack from a test", tests("freehold/catalog", "freehold/tenantdb"), 1},
		{"a test of the layer below", tests("freehold/catalog", "freehold/migrations/pgtest"), 0},
		{"between siblings", imports("freehold/router", "freehold/inference/pii"), 1},
		{"inside a folder", imports("freehold/inference", "freehold/inference/pii"), 0},
		{"a folder whose name begins alike", imports("freehold/catalogue", "freehold/migrations"), 1},
		{"a folder of no layer", graph{{path: "freehold/tools/gen"}}, 1},
		{"a package at the top", graph{{path: "freehold"}}, 1},
		{"the standard library", imports("freehold/migrations", "io/fs"), 0},

		{"router holds fleet", imports("freehold/router", "freehold/tenantdb/fleet"), 1},
		{"inference tests hold fleet", tests("freehold/inference", "freehold/tenantdb/fleet"), 1},
		{"tenantdb holds fleet", imports("freehold/tenantdb", "freehold/tenantdb/fleet"), 1},
		{"cmd holds fleet", imports("freehold/cmd/freehold/cli", "freehold/tenantdb/fleet"), 0},
		{"Fiber in inference", imports("freehold/inference", "github.com/gofiber/fiber/v2"), 1},
		{"fasthttp in router", imports("freehold/router", "github.com/valyala/fasthttp"), 1},
		{"Fiber in cmd", imports("freehold/cmd/freehold/api", "github.com/gofiber/fiber/v2"), 0},
		{"AWS in fleet", imports("freehold/tenantdb/fleet", "github.com/aws/aws-sdk-go-v2/service/s3"), 1},
		{"AWS in a test of cmd", tests("freehold/cmd/freehold/app", "github.com/aws/smithy-go"), 1},
		{"AWS in blob", imports("freehold/tenantdb/blob", "github.com/aws/aws-sdk-go-v2/service/s3"), 0},
		{"the gateway in cli", imports("freehold/cmd/freehold/cli", "github.com/versity/versitygw/embedgw"), 1},
		{"the gateway in a test of fleet", tests("freehold/tenantdb/fleet", "github.com/versity/versitygw/embedgw"), 1},
		{"River beside the queue", imports("freehold/catalog", "github.com/riverqueue/river"), 1},
		{"River in the queue", imports("freehold/catalog/queue", "github.com/riverqueue/river"), 0},
		{"pgx in inference", imports("freehold/inference", "github.com/jackc/pgx/v5"), 1},
		{"pgx in cmd", imports("freehold/cmd/freehold/admin", "github.com/jackc/pgx/v5/pgxpool"), 1},
		{"pgx in a test of cmd", tests("freehold/cmd/freehold/admin", "github.com/jackc/pgx/v5"), 0},
		{"pgx in tenantdb", imports("freehold/tenantdb/fleet", "github.com/jackc/pgx/v5"), 0},
		{"testcontainers in migrations", tests("freehold/migrations", "github.com/testcontainers/testcontainers-go"), 1},

		{"a vague name", graph{{path: "freehold/catalog/util"}}, 1},
		{"a name that holds a vague one", graph{{path: "freehold/cmd/freehold/typesetting"}}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := slices.Concat(c.graph.outOfStack(), c.graph.notKept(keepers), c.graph.vaguelyNamed())
			if c.want == 0 && len(got) > 0 || c.want > 0 && len(got) == 0 {
				t.Errorf("want violations: %v, got %q", c.want > 0, got)
			}
		})
	}
	for _, path := range unlinked {
		if len(linkedTestCode([]string{"io", path + "/v9/part"})) == 0 || len(linkedTestCode([]string{path})) == 0 {
			t.Errorf("a binary with %s in it passes", path)
		}
	}
	if linkedTestCode([]string{"freehold/migrations/pgtest"}) == nil {
		t.Error("a binary with a test helper of ours in it passes")
	}
	if got := linkedTestCode([]string{"freehold/e2ebutnot", "testing/fstest", "go.uber.org/goleakless"}); got != nil {
		t.Errorf("names that only begin alike are refused: %q", got)
	}
}

// report fails the test with one line a violation.
func report(t *testing.T, violations []string) {
	t.Helper()
	for _, violation := range violations {
		t.Error(violation)
	}
}

// goList runs `go list` at the module's root.
func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	return out
}
