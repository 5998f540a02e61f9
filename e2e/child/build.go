package child

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// builds holds one func() (string, error) for each package path, so that a test
// process builds each program once.
var builds sync.Map

// Freehold builds cmd/freehold and returns the path of the binary.
func Freehold(t testing.TB) string {
	t.Helper()
	return Build(t, "./cmd/freehold")
}

// Build compiles the main package at the path, which is relative to the module's
// root and begins with "./", and returns the binary's absolute path under bin/e2e.
// It always holds the code as it stands: what is there from an earlier build is
// replaced, unseen by those who run it.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	build, _ := builds.LoadOrStore(pkg, sync.OnceValues(func() (string, error) { return compile(t, pkg) }))
	bin, err := build.(func() (string, error))()
	if err != nil {
		t.Fatalf("build %s: %v", pkg, err)
	}
	return bin
}

// BuildWith is Build with files laid over the sources, by their paths below the
// module's root: another release of the program. Its binary is the test's own, and goes
// with it.
func BuildWith(t testing.TB, pkg string, files map[string]string) string {
	t.Helper()
	root, dir := Root(t), t.TempDir()
	over := map[string]string{}
	for name, body := range files {
		file := filepath.Join(dir, strconv.Itoa(len(over)))
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		over[filepath.Join(root, filepath.FromSlash(name))] = file
	}
	text, err := json.Marshal(map[string]any{"Replace": over})
	if err != nil {
		t.Fatal(err)
	}
	overlay, bin := filepath.Join(dir, "overlay.json"), filepath.Join(dir, path.Base(pkg))
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := goBuild(root, pkg, bin, "-overlay", overlay); err != nil {
		t.Fatalf("build %s: %v", pkg, err)
	}
	return bin
}

func compile(t testing.TB, pkg string) (string, error) {
	root := Root(t)
	dir := filepath.Join(root, "bin", "e2e")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, path.Base(pkg))
	// Several test processes build at once, and a rename is seen whole.
	fresh := bin + "." + strconv.Itoa(os.Getpid())
	defer os.Remove(fresh)
	// One that is up to date isn't linked again.
	if old, err := os.ReadFile(bin); err == nil {
		if err := os.WriteFile(fresh, old, 0o755); err != nil {
			return "", err
		}
	}
	if err := goBuild(root, pkg, fresh); err != nil {
		return "", err
	}
	return bin, os.Rename(fresh, bin)
}

func goBuild(root, pkg, bin string, flags ...string) error {
	// What debuggers read takes the linker as long as all the rest.
	args := append([]string{"build", "-ldflags=-w"}, flags...)
	cmd := exec.Command("go", append(args, "-o", bin, pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// Root returns the module's root, the nearest folder above the test's that
// holds a go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}
