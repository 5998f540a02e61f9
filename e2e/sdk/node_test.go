//go:build e2e

package sdk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/e2e/child"
)

// testNode installs the Node SDK as the lock file has it and runs the scripts.
func testNode(t *testing.T, g *ground) {
	node, dir := installed(t)
	got := child.Run(t, child.Config{
		Path: node, Dir: dir,
		Args: []string{"--test", "--test-reporter=spec", "test/all.test.js"},
		Env:  []string{"OPENAI_BASE_URL=" + g.door.url, "OPENAI_API_KEY=" + g.key, "SLUG=" + g.slug, "NO_COLOR=1"},
	}, 2*time.Minute)
	if got.Code != 0 || !strings.Contains(got.Stdout, "fail 0") || strings.Contains(got.Stdout, "pass 0") {
		t.Errorf("node --test: exit status %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	for _, word := range []string{"skipped", "todo", "cancelled"} {
		if !strings.Contains(got.Stdout, word+" 0") {
			t.Errorf("tests were %s:\n%s", word, got.Stdout)
		}
	}
}

// installed makes a folder with the scripts and what package-lock.json names, and
// returns it with Node's path.
func installed(t *testing.T) (node, dir string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("the Node SDK's tests need Node 20 or later: there is no node command")
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Fatal("the Node SDK's tests need npm: there is no npm command")
	}
	dir = t.TempDir()
	old := child.Run(t, child.Config{
		Path: node, Dir: dir, Args: []string{"-p", "process.versions.node.split('.')[0] >= 20 || process.version"},
	}, 30*time.Second)
	if old.Stdout != "true\n" {
		t.Fatalf("the Node SDK's tests need Node 20 or later, not %s%s", old.Stdout, old.Stderr)
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(child.Root(t), "e2e", "sdk"))); err != nil {
		t.Fatal(err)
	}
	// Where this machine's npm gets its packages is npm's to know.
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(strings.ToLower(v), "=")
		return !strings.HasPrefix(name, "npm_config_") && !strings.HasSuffix(name, "_proxy") && !strings.HasSuffix(name, "_ca_certs")
	})
	got := child.Run(t, child.Config{
		Path: npm, Dir: dir, Env: env,
		Args: []string{"ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"},
	}, 2*time.Minute)
	if got.Code != 0 {
		t.Fatalf("npm ci: exit status %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "openai", "package.json")); err != nil {
		t.Fatal(err)
	}
	return node, dir
}
