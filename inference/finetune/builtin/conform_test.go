package builtin_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"freehold/catalog"
	"freehold/inference/finetune"
	"freehold/inference/finetune/builtin"
	"freehold/inference/finetune/trainertest"
)

// slowly is the trainer's child that tells of its first steps, and then sleeps.
const slowly = `#!/bin/sh
"%s" "$@" | head -n 3
sleep 60
`

func TestConforms(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	slow := filepath.Join(t.TempDir(), "slow")
	write(t, slow, fmt.Sprintf(slowly, self), 0o700)
	trainertest.Run(t, func(*testing.T) trainertest.Fixture {
		return trainertest.Fixture{
			Trainer: builtin.New(builtin.Config{Path: self, Cores: 1}), Slow: builtin.New(builtin.Config{Path: slow, Cores: 1}),
			Base:          catalog.Model{Name: "freehold-answer-1", Engine: "builtin"},
			Spoil:         func(t *testing.T, run *finetune.Run) { write(t, run.Train, "{\n", 0o600) },
			Deterministic: true, Saves: true,
		}
	})
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
