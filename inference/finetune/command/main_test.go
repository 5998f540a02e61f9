package command_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"freehold/catalog"
	"freehold/inference/finetune"
	"freehold/inference/finetune/child"
	"freehold/inference/finetune/command"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
)

// store is the process's object store, started for the first test that asks.
var store = sync.OnceValues(func() (*blob.Store, error) {
	endpoint, stop, err := blobtest.Start()
	if err != nil {
		return nil, err
	}
	stopStore = stop
	return blob.Open(context.Background(), blob.Config{Endpoint: endpoint, Bucket: "freehold-test"}, true)
})

var stopStore = func() {}

// objects are a new tenant's.
func objects(t testing.TB) *blob.Objects {
	t.Helper()
	s, err := store()
	if err != nil {
		t.Fatal(err)
	}
	return s.Tenant(catalog.NewTenantID())
}

func TestMain(m *testing.M) {
	child.Guard()
	code := m.Run()
	stopStore()
	// The store's HTTP server keeps a clock for the life of the process, and a
	// sweeper that sleeps on for up to 10 s after its end.
	err := goleak.Find(goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
	if code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// folder is a new folder with commands.
func folder(t testing.TB, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, script := range scripts {
		put(t, filepath.Join(dir, name), "#!/bin/sh\n"+script, 0o755)
	}
	return dir
}

func put(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	// Another name first: a file that is open for writing by a process forked
	// meanwhile can't be executed.
	if err := os.WriteFile(path+".new", []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func trainer(t testing.TB, script string) *command.Trainer {
	t.Helper()
	tr, err := command.New(command.Config{Dir: folder(t, map[string]string{"train": script}), Name: "train", Eager: true})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

var base = catalog.Model{Name: "small", Upstream: "org/small-1b", Engine: "gpu"}

// alive counts the processes whose numbers are in a folder.
func alive(t testing.TB, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		zombie := err == nil && strings.Contains(string(stat), ") Z ")
		if syscall.Kill(pid, 0) == nil && !zombie {
			n++
		}
	}
	return n
}

// simple is a run without a job's history.
func simple(t testing.TB) *finetune.Run {
	t.Helper()
	dir := t.TempDir()
	r := &finetune.Run{
		Job: finetune.Job{ID: "ftjob-0199", Model: "ft:small:acme::1", Base: base, Seed: 5, Method: finetune.Method{Type: "supervised"}},
		Out: filepath.Join(dir, "out"), Checkpoints: filepath.Join(dir, "checkpoints"),
		Train: filepath.Join(dir, "t.jsonl"), Examples: 1, DataSum: "abc",
		Report: func(context.Context, finetune.Event) error { return nil },
		Saved:  func(context.Context, string) error { return nil },
	}
	for _, d := range []string{r.Out, r.Checkpoints} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put(t, r.Train, "{}\n", 0o600)
	return r
}

// staged is a simple run with a tenant's objects.
func staged(t testing.TB) *finetune.Run {
	t.Helper()
	r := simple(t)
	r.Objects, r.Staging = objects(t), "models/0199/staging/"
	return r
}
