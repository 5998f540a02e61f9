package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freehold/e2e/child"
)

// readme returns the shell block of README.md that stands under the marker
// `<!-- e2e: name -->`, so that what is tested is what a reader pastes.
func readme(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(child.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "<!-- e2e: "+name+" -->\n```sh\n")
	block, _, closed := strings.Cut(after, "\n```\n")
	if !found || !closed || block == "" {
		t.Fatalf("README.md has no block %q", name)
	}
	return block
}
