package app_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"freehold/cmd/freehold/app"
)

// What is written is what a shell and the next start read, whole, and nobody else.
func TestDevEnv(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "dev.env")
	if vars, err := app.ReadEnv(path); err != nil || len(vars) != 0 {
		t.Errorf("no file: %v %v", vars, err)
	}
	// Left by somebody else, readable by all: what is written next must not be.
	if err := os.WriteFile(path+".new", []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	const odd = `it's $HOME "and" \`
	for _, key := range []string{"one", odd} {
		if err := app.WriteEnv(path, "A_KEY", key); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v %v", info.Mode(), err)
		}
		if vars, err := app.ReadEnv(path); err != nil || vars["A_KEY"] != key {
			t.Errorf("read %q: %v", vars, err)
		}
		said, err := exec.CommandContext(t.Context(), "sh", "-c", `. "$0"; printf %s "$A_KEY"`, path).Output()
		if err != nil || string(said) != key {
			t.Errorf("a shell reads %q: %v", said, err)
		}
	}
}
