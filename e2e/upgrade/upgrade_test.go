//go:build e2e

package upgrade_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"freehold/migrations/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.MainLeak(m, goleak.IgnoreCurrent())
}

// The release before and the next one serve one fleet through README's steps on
// upgrading, and no request fails. What a later release takes away waits for the last
// node that uses it.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	g := setup(t)
	before, after := steps(t)
	all := func(version int64) string {
		return fmt.Sprintf("%d of %d tenants at version %d", tenants, tenants, version)
	}

	first, second := g.serve(g.old), g.serve(g.old)
	l := begin(t, g.keys, first, second)
	l.await(t, 10, first, second)
	g.done(g.old, "catalog", "backup")

	// The catalog first: doctor says so, and nodes go on with a newer one.
	g.refused([]string{"not yet", "freehold catalog migrate"}, g.next, "doctor", "--upgrade")
	for _, command := range before {
		got := g.done(g.next, words(t, command)...)
		if strings.Contains(command, "doctor --upgrade") {
			g.says(got, fmt.Sprintf("ready to upgrade from schema %d to %d", g.schema, g.schema+1))
		}
	}
	l.await(t, 10, first, second)

	// The nodes one by one; the second is left as it is, to serve what the next
	// release has migrated.
	first = l.replace(g, first, g.next)
	l.await(t, 10, first, second)
	for _, command := range after {
		args := words(t, command)
		if strings.HasSuffix(command, "migrate up") {
			got := g.done(g.next, append(args, "--soak", "2s")...)
			g.says(got, all(g.schema+1))
			continue
		}
		g.done(g.next, args...)
	}
	l.await(t, 3*tenants, first, second)

	// A contraction waits for the old node, which is named with the file.
	file := filepath.Base(numbered("tenant", g.schema+2, "drop"))
	g.refused([]string{file, "nodes of an older release"}, g.last, "migrate", "up", "--soak", "0")
	g.says(g.done(g.last, "doctor", "--upgrade"), file, "put this release's binary in place of")
	l.await(t, 10, first, second)
	second = l.replace(g, second, g.last)
	g.says(g.done(g.last, "migrate", "up", "--soak", "0"), all(g.schema+2))
	l.await(t, 3*tenants, first, second)
	g.done(g.last, "migrate", "drift")

	// A node that is too old for it says so, before any handler runs.
	late := g.serve(g.old)
	status, text := g.log(late)
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "tenant_upgrading") {
		t.Errorf("a node of the release before the expansion: %d %s", status, text)
	}

	l.end()
	if failed := l.failures(); len(failed) > 0 {
		t.Errorf("%d requests failed:\n%s", len(failed), strings.Join(failed, "\n"))
	}
	for _, n := range []*node{first, second} {
		t.Logf("%s answered %d requests", filepath.Base(n.release), l.goodOf(n))
	}
}

// words are the arguments of a command of README's: it has no quotes.
func words(t *testing.T, command string) []string {
	t.Helper()
	list := strings.Fields(command)
	if list[0] != "freehold" || strings.ContainsAny(command, `'"$|&;`) {
		t.Fatalf("README's step isn't a plain command of freehold: %s", command)
	}
	return list[1:]
}
