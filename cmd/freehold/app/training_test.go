package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freehold/cmd/freehold/app"
)

func TestTrainingIsChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := func(env map[string]string) error {
		return app.FromEnv(func(name string) string { return env[name] }).Check(app.NeedWorkers)
	}
	for _, fine := range []map[string]string{
		nil,
		{"FREEHOLD_TRAIN_JOBS": "0"}, {"FREEHOLD_TRAIN_PRIORITY": "idle"}, {"FREEHOLD_TRAIN_PRIORITY": "normal"},
		{"FREEHOLD_TRAIN_JOBS": "4", "FREEHOLD_TRAIN_CORES": "1", "FREEHOLD_TRAINERS_DIR": dir},
	} {
		if err := check(fine); err != nil {
			t.Errorf("%v: %v", fine, err)
		}
	}
	bad := map[string]string{
		"FREEHOLD_TRAIN_JOBS": "-1", "FREEHOLD_TRAIN_CORES": "0", "FREEHOLD_TRAIN_PRIORITY": "low",
		"FREEHOLD_TRAINERS_DIR": filepath.Join(dir, "none"),
	}
	err := check(bad)
	if !errors.Is(err, app.ErrConfig) {
		t.Fatalf("bad configuration: %v", err)
	}
	for name := range bad {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s isn't named in: %v", name, err)
		}
	}
}

// A folder with tenants' data doesn't outlive its process for longer than until the
// next one begins, and no living process loses its own.
func TestRunsFolder(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dead := filepath.Join(base, "runs", "worker-1")
	if err := os.MkdirAll(filepath.Join(dead, "jobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	one, leaveOne, err := app.RunsFolder(base)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dead process's folder is left: %v", err)
	}
	two, leaveTwo, err := app.RunsFolder(base)
	if err != nil {
		t.Fatal(err)
	}
	defer leaveTwo()
	if one == two {
		t.Error("two processes have one folder")
	}
	if _, err := os.Stat(filepath.Dir(one)); err != nil {
		t.Errorf("a living process has lost its folder: %v", err)
	}
	leaveOne()
	if _, err := os.Stat(filepath.Dir(one)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("who left has left something: %v", err)
	}
}
