//go:build e2e

package upgrade_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"freehold/e2e/child"
	"freehold/migrations"
)

// Bodies of migrations. Freehold's next release adds a column, a table and an index,
// and the release before it, which knows neither, goes on with them. The one after
// takes away what a release without the first still could use.
const (
	catalogSQL = "-- +goose Up\nalter table servers add column mood text;\n"

	expandSQL = `-- freehold:needs %[1]d
-- +goose Up
alter table freehold.predictions add column mood text;
create table freehold.moods (id bigint primary key, name text not null, old text);
create index moods_name on freehold.moods (name);
grant select, insert on freehold.moods to freehold_tenant;
`

	contractSQL = `-- freehold:needs %[1]d
-- freehold:contracts %[1]d
-- +goose Up
alter table freehold.moods drop column old;
`
)

// releases are three binaries in a row.
type releases struct {
	old, next, last string
	schema          int64 // of tenants, that old has; next has one more, last two
}

// build makes them: old is this module as it stands.
func build(t *testing.T) releases {
	t.Helper()
	r := releases{old: child.Freehold(t)}
	var err error
	if r.schema, err = migrations.Tenant().Latest(); err != nil {
		t.Fatal(err)
	}
	cat, err := migrations.Catalog().Latest()
	if err != nil {
		t.Fatal(err)
	}
	more := map[string]string{
		numbered("catalog", cat+1, "mood"):      catalogSQL,
		numbered("tenant", r.schema+1, "moods"): fmt.Sprintf(expandSQL, r.schema),
	}
	r.next = child.BuildWith(t, "./cmd/freehold", more)
	more[numbered("tenant", r.schema+2, "drop")] = fmt.Sprintf(contractSQL, r.schema+1)
	r.last = child.BuildWith(t, "./cmd/freehold", more)
	return r
}

func numbered(set string, version int64, name string) string {
	return path.Join("migrations", set, fmt.Sprintf("%05d_%s.sql", version, name))
}

// steps are the commands of README's block on upgrading, those before the nodes are
// replaced and those after.
func steps(t *testing.T) (before, after []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(child.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "<!-- e2e: upgrade -->\n```sh\n")
	block, _, closed := strings.Cut(block, "\n```\n")
	if !found || !closed {
		t.Fatal("README.md has no block on upgrading")
	}
	list, nodes := &before, false
	for line := range strings.Lines(block) {
		command, comment, _ := strings.Cut(strings.TrimSpace(line), "#")
		if command == "" && strings.Contains(comment, "nodes") {
			list, nodes = &after, true
			continue
		}
		if command != "" {
			*list = append(*list, strings.TrimSpace(command))
		}
	}
	if !nodes || len(before) == 0 || len(after) == 0 {
		t.Fatalf("README's block on upgrading doesn't say when nodes are replaced:\n%s", block)
	}
	return before, after
}
