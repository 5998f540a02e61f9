package cli_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

func (b bench) into(v any, args ...string) {
	b.t.Helper()
	out, _ := b.run("", 0, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		b.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func TestKeysetRotate(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	file := os.Getenv("FREEHOLD_MASTER_KEY_FILE")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var first, second catalog.Rotation
	b.into(&first, "keyset", "rotate")
	if first.Unreadable == nil {
		t.Error("a list is null")
	}
	if first.New == 0 || first.Old == first.New || first.Resealed != 1 {
		t.Errorf("rotated %+v", first)
	}
	b.run("", 2, "keyset", "rotate", "--wait", "0s")

	// A node that has another file doesn't know the next key.
	far := filepath.Join(t.TempDir(), "far.key")
	copied := func() {
		t.Helper()
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(far, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copied()
	stop := node(t, far)
	out, told := b.run("", 3, "keyset", "rotate", "--wait", "100ms", "-o", "json")
	if err := json.Unmarshal([]byte(out), &second); err != nil || second.Old != first.New {
		t.Errorf("rotated %+v: %v", second, err)
	}
	for _, want := range []string{"far-away", "copy " + file + " to them and run this again"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q isn't said: %s", want, told)
		}
	}
	stop()
	var third catalog.Rotation
	b.into(&third, "keyset", "rotate")
	if third.New != second.New || third.Resealed != 1 {
		t.Errorf("went on with %+v, after %+v", third, second)
	}
	b.run("", 0, "doctor")
	// The old file alone is no longer enough.
	if err := os.WriteFile(file, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, told := b.run("", 1, "tenant", "list"); !strings.Contains(told, "master key") {
		t.Errorf("with the old file: %s", told)
	}
}

// node is a live node that reads its master key from a file.
func node(t *testing.T, keyset string) (stop func()) {
	t.Helper()
	keys, err := catalog.ReadKeyset(keyset)
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Open(t.Context(), catalog.Config{URL: os.Getenv("FREEHOLD_CATALOG_URL"), Keyset: keys})
	if err != nil {
		t.Fatal(err)
	}
	cache := catalog.NewCache(cat, catalog.CacheConfig{NodeName: "far-away"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- cache.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); !cache.Ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the node isn't ready")
		}
	}
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		cat.Close()
	}
}
