package trainertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"freehold/inference/finetune"
)

// job is what lasts from one try to the next.
type job struct {
	*testing.T
	fx  Fixture
	job finetune.Job

	mu       sync.Mutex // guards what follows
	saved    map[string][]byte
	upstream string
	events   []finetune.Event
	// on, when set, decides about a report or a save.
	on func(what string) error
}

func newJob(t *testing.T, fx Fixture) *job {
	t.Helper()
	id := uuid.Must(uuid.NewV7()).String()
	sum := sha256.Sum256([]byte(id))
	return &job{T: t, fx: fx, saved: map[string][]byte{}, job: finetune.Job{
		ID: finetune.JobPrefix + id, Model: "ft:" + fx.Base.Name + ":acme:shop:" + hex.EncodeToString(sum[:4]),
		Base: fx.Base, Suffix: "shop", Seed: 42, Method: finetune.Method{Type: "supervised"},
	}}
}

// run makes the folders of a try. What the last one has saved is there; whatever
// else it left is not.
func (j *job) run() *finetune.Run {
	j.Helper()
	dir := j.TempDir()
	r := &finetune.Run{Job: j.job, Out: filepath.Join(dir, "out"), Checkpoints: filepath.Join(dir, "checkpoints"), Objects: j.fx.Objects}
	data := filepath.Join(dir, "data")
	for _, d := range []string{data, r.Out, r.Checkpoints} {
		if err := os.Mkdir(d, 0o700); err != nil {
			j.Fatal(err)
		}
	}
	r.Train, r.Validation, r.DataSum, r.Examples = Data(j, data)
	if r.Objects != nil {
		r.Staging = "models/" + strings.TrimPrefix(j.job.ID, finetune.JobPrefix) + "/staging/"
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Upstream = j.upstream
	for name, content := range j.saved {
		if err := os.WriteFile(filepath.Join(r.Checkpoints, name), content, 0o600); err != nil {
			j.Fatal(err)
		}
	}
	r.SetUpstream = func(ctx context.Context, id string) error {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.upstream = id
		return context.Cause(ctx)
	}
	r.Saved = func(ctx context.Context, name string) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		path := filepath.Join(r.Checkpoints, name)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || name != filepath.Base(name) {
			j.Errorf("saved %q, which is no file there: %v", name, err)
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		j.mu.Lock()
		j.saved[name] = content
		on := j.on
		j.mu.Unlock()
		return call(on, "saved")
	}
	r.Report = func(_ context.Context, e finetune.Event) error {
		j.check(e)
		j.mu.Lock()
		j.events = append(j.events, e)
		on := j.on
		j.mu.Unlock()
		return call(on, "report")
	}
	return r
}

func call(on func(string) error, what string) error {
	if on == nil {
		return nil
	}
	return on(what)
}

// decide sets what reports and saves answer from now on.
func (j *job) decide(on func(what string) error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.on = on
}

func (j *job) told() []finetune.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

var metricName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// check looks at what a tenant is told.
func (j *job) check(e finetune.Event) {
	if !slices.Contains([]string{"", "info", "warn", "error"}, e.Level) {
		j.Errorf("an event of level %q", e.Level)
	}
	if e.Message == "" && e.Metrics == nil || e.Step < 0 || e.Checkpoint && e.Metrics == nil {
		j.Errorf("an event that says nothing: %+v", e)
	}
	for name, value := range e.Metrics {
		if !metricName.MatchString(name) || math.IsNaN(value) || math.IsInf(value, 0) {
			j.Errorf("metric %q is %v", name, value)
		}
	}
	data, err := json.Marshal(e.Data)
	if err != nil {
		j.Errorf("an event that can't be written: %v", err)
	}
	j.hushed("an event", e.Message+string(data))
}

// hushed finds what must not be said.
func (j *job) hushed(where, text string) {
	for _, secret := range append([]string{Canary}, j.fx.Secrets...) {
		if strings.Contains(text, secret) {
			j.Errorf("%s holds what is secret", where)
		}
	}
}

// train is a try that must be done.
func (j *job) train(tr finetune.Trainer, r *finetune.Run) finetune.Result {
	j.Helper()
	before, asked := files(j, filepath.Dir(r.Train)), r.Job
	result, err := tr.Train(j.Context(), r)
	if err != nil {
		j.Fatalf("train: %v", err)
	}
	if !maps.EqualFunc(before, files(j, filepath.Dir(r.Train)), bytes.Equal) || r.Job.ID != asked.ID || r.Job.Method != asked.Method {
		j.Error("the job or its data isn't as it was")
	}
	if result.TrainedTokens <= 0 {
		j.Errorf("%d trained tokens", result.TrainedTokens)
	}
	if len(files(j, r.Out)) == 0 && result.Upstream == "" {
		j.Error("neither an artifact nor a name at an engine")
	}
	if result.Evaluation != nil && !json.Valid(result.Evaluation) {
		j.Error("the evaluation isn't JSON")
	}
	card, err := json.Marshal(result.Card)
	if err != nil {
		j.Errorf("the card can't be written: %v", err)
	}
	j.hushed("the card", string(card))
	return result
}

// fails is a try that must not be done; ctx may end meanwhile.
func (j *job) fails(ctx context.Context, tr finetune.Trainer, r *finetune.Run) error {
	j.Helper()
	_, err := tr.Train(ctx, r)
	if err == nil {
		j.Fatal("done, in spite of all")
	}
	text := err.Error()
	if f, ok := errors.AsType[*finetune.Failure](err); ok {
		text += f.Message
	}
	j.hushed("an error", text)
	return err
}

// files reads a folder; what is no file fails the test.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no file", path)
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
