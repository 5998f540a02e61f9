package lint_test

import (
	"fmt"
	"slices"
	"testing"

	"freehold/migrations"
	"freehold/migrations/lint"
)

func ownStreams(t *testing.T) map[string][]migrations.File {
	t.Helper()
	streams := map[string][]migrations.File{}
	for stream, set := range map[string]migrations.Set{
		lint.StreamFreehold: migrations.Tenant(),
		lint.StreamCatalog:  migrations.Catalog(),
	} {
		files, err := set.Files()
		if err != nil {
			t.Fatal(err)
		}
		streams[stream] = files
	}
	return streams
}

// What Freehold asks of others' migrations its own do, but for what was released before
// the linter was, each with a reason.
func TestOwnMigrationsPass(t *testing.T) {
	t.Parallel()
	for stream, files := range ownStreams(t) {
		for _, f := range check(t, lint.Options{Stream: stream}, files...) {
			t.Errorf("%s:%d: %s: %s\n\t%s", f.File, f.Line, f.Rule, f.Statement, f.Why)
		}
	}
}

// Nothing is excused that isn't found, and nothing without a reason.
func TestShippedIsFound(t *testing.T) {
	t.Parallel()
	for stream, files := range ownStreams(t) {
		var excused, found []string
		for file, rules := range lint.Shipped[stream] {
			for rule, reason := range rules {
				excused = append(excused, fmt.Sprintf("%s %s", file, rule))
				if reason == "" {
					t.Errorf("%s: %s is excused without a reason", file, rule)
				}
			}
		}
		const other = "other_"
		for i := range files {
			files[i].Name = other + files[i].Name
		}
		for _, f := range check(t, lint.Options{Stream: stream}, files...) {
			found = append(found, fmt.Sprintf("%s %s", f.File[len(other):], f.Rule))
		}
		slices.Sort(excused)
		slices.Sort(found)
		if found = slices.Compact(found); !slices.Equal(excused, found) {
			t.Errorf("%s: excused\n%q\nfound\n%q", stream, excused, found)
		}
	}
}
