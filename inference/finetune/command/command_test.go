package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"freehold/inference/finetune"
	"freehold/inference/finetune/child"
	"freehold/inference/finetune/command"
	"freehold/tenantdb"
)

func TestWhatACommandIsGiven(t *testing.T) {
	t.Parallel()
	run := staged(t)
	run.Job.Method.Epochs, run.Job.Method.LearningRateMultiplier = 3, 0.1
	run.Validation = filepath.Join(filepath.Dir(run.Out), "v")
	put(t, run.Validation, "validation\n", 0o600)
	put(t, filepath.Join(run.Checkpoints, "earlier"), "kept\n", 0o600)
	result := train(t, run, `cp "$FREEHOLD_JOB" "$FREEHOLD_OUTPUT/job"; env | sort >"$FREEHOLD_OUTPUT/env"
		cat "$FREEHOLD_DATA"/*.jsonl "$FREEHOLD_CHECKPOINTS/earlier" >"$FREEHOLD_OUTPUT/data"; touch "$TMPDIR/x" here; pwd >"$FREEHOLD_OUTPUT/pwd"`)
	if !reflect.DeepEqual(result, finetune.Result{}) {
		t.Errorf("a result of nothing: %+v", result)
	}
	if got := read(t, run, "data"); got != "{}\nvalidation\nkept\n" {
		t.Errorf("data %q", got)
	}
	var job map[string]any
	if err := json.Unmarshal([]byte(read(t, run, "job")), &job); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"train", "validation"} {
		if file, _ := job[path].(string); filepath.Base(file) != path+".jsonl" {
			t.Errorf("%s is %q", path, file)
		}
		delete(job, path)
	}
	if want := map[string]any{
		"id": "ftjob-0199", "model": "ft:small:acme::1", "seed": 5.0, "examples": 1.0, "data_sha256": "abc",
		"base_model": map[string]any{"name": "small", "upstream": "org/small-1b", "engine": "gpu"},
		"method":     map[string]any{"type": "supervised", "n_epochs": 3.0, "learning_rate_multiplier": 0.1},
		"output":     run.Out, "checkpoints": run.Checkpoints,
	}; !reflect.DeepEqual(job, want) {
		t.Errorf("the job's file says %v", job)
	}
	env := map[string]string{}
	for line := range strings.Lines(read(t, run, "env")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[name] = value
	}
	for name, want := range map[string]string{
		"FREEHOLD_JOB_ID": "ftjob-0199", "FREEHOLD_BASE_MODEL": "org/small-1b", "FREEHOLD_MODEL": "ft:small:acme::1", "FREEHOLD_SEED": "5",
		"FREEHOLD_EPOCHS": "3", "FREEHOLD_LEARNING_RATE_MULTIPLIER": "0.1", "FREEHOLD_OUTPUT": run.Out,
	} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	if _, ok := env["FREEHOLD_BATCH_SIZE"]; ok {
		t.Error("a batch size that nobody chose")
	}
	for name := range env {
		if strings.HasPrefix(name, "AWS_") {
			t.Errorf("the command sees %s", name)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(run.Out))
	if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "command-") }) {
		t.Errorf("the command's folder is still there: %v, %v", entries, err)
	}
}

func train(t *testing.T, run *finetune.Run, script string) finetune.Result {
	t.Helper()
	result, err := trainer(t, script).Train(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func read(t *testing.T, run *finetune.Run, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(run.Out, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestProtocol(t *testing.T) {
	t.Parallel()
	run := simple(t)
	put(t, filepath.Join(run.Checkpoints, "c1"), "x", 0o600)
	var events []finetune.Event
	var saved []string
	run.Report = func(_ context.Context, e finetune.Event) error { events = append(events, e); return nil }
	run.Saved = func(_ context.Context, name string) error { saved = append(saved, name); return nil }
	lines := []string{
		`plain`, `{`, `[]`, `{}`, `{"type":5}`, `{"type":"unknown"}`, `{"type":"metrics"}`, `{"type":"metrics","step":-1,"loss":1}`,
		`{"type":"metrics","step":7,"train_loss":0.126,"Bad Name":1,"text":"no","list":[1],"valid_loss":2e0}`,
		`{"type":"metrics","step":"8","acc":1}`, // as some loggers write numbers
		`{"type":"metrics","step":9,"train_loss":NaN}`,
		`{"type":"checkpoint","step":9.0}`,
		`{"type":"message","message":"  two\nlines\u0007 of text  "}`,
		`{"type":"message","level":"warn","message":"hot"}`,
		`{"type":"message","level":"fatal","message":"` + strings.Repeat("é", 1100) + `"}`,
		`{"type":"message","message":" "}`,
		`{"type":"saved","file":"c1"}`,
		`{"type":"result","model":"m1","trained_tokens":12.4,"evaluation":{"loss":1}}`,
		`{"type":"result","model":"m2","engine":"e","card":{"a":1},"evaluation":null}`,
	}
	result := train(t, run, "cat <<'EOF'\n"+strings.Join(lines, "\n")+"\nEOF\n")
	want := []finetune.Event{
		{Level: "info", Message: "Step 7: training loss=0.13", Step: 7, Metrics: map[string]float64{"train_loss": 0.126, "valid_loss": 2}},
		{Level: "info", Message: "Step 8", Step: 8, Metrics: map[string]float64{"acc": 1}},
		{Level: "info", Message: "Checkpoint created at step 9", Step: 9, Metrics: map[string]float64{}, Checkpoint: true},
		{Level: "info", Message: "two lines of text"},
		{Level: "warn", Message: "hot"},
		{Level: "info", Message: strings.Repeat("é", 1000) + "…"},
	}
	for i, e := range events {
		if i >= len(want) || !reflect.DeepEqual(e, want[i]) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if len(events) != len(want) || !slices.Equal(saved, []string{"c1"}) {
		t.Errorf("%d events, want %d; saved %q", len(events), len(want), saved)
	}
	if result.Upstream != "m2" || result.Engine != "e" || result.TrainedTokens != 12 || result.Card["a"] != 1.0 || result.Evaluation != nil {
		t.Errorf("%+v", result)
	}
}

func TestHowItFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script  string
		failure *finetune.Failure
		exit    int
		is      error
	}{
		"status":         {script: "exit 3", exit: 3},
		"status, result": {script: `echo '{"type":"result","model":"m"}'; exit 4`, exit: 4},
		"nothing made":   {script: "true"},
		"failure": {script: `echo '{"type":"failure","code":"invalid_training_file","message":"Too few.","param":"training_file"}'`,
			failure: &finetune.Failure{Code: "invalid_training_file", Message: "Too few.", Param: "training_file"}},
		"failure and status": {script: `echo '{"type":"failure","code":"A B","param":"C D"}'; exit 1`,
			failure: &finetune.Failure{Code: "trainer_error", Message: "The trainer could not make a model of this data."}},
		"saved outside":     {script: `echo '{"type":"saved","file":"../out/x"}'; sleep 60`},
		"saved nothing":     {script: `echo '{"type":"saved","file":"missing"}'; sleep 60`},
		"saved a link":      {script: `ln -s /etc/passwd "$FREEHOLD_CHECKPOINTS/l"; echo '{"type":"saved","file":"l"}'; sleep 60`},
		"a strange result":  {script: `echo '{"type":"result","model":"a b"}'; sleep 60`},
		"a result of types": {script: `echo '{"type":"result","trained_tokens":"many"}'; sleep 60`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := trainer(t, c.script).Train(t.Context(), staged(t))
			failure, failed := errors.AsType[*finetune.Failure](err)
			exit, exited := errors.AsType[*child.Exit](err)
			if err == nil || failed != (c.failure != nil) || exited != (c.exit > 0) {
				t.Fatalf("%v", err)
			}
			if failed && *failure != *c.failure || exited && exit.Code != c.exit {
				t.Errorf("%+v", err)
			}
			for _, secret := range []string{"http", "Signature", "passwd"} {
				if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
					t.Errorf("%q in %v", secret, err)
				}
			}
		})
	}
}

func TestFloodIsThinnedOut(t *testing.T) {
	t.Parallel()
	run := simple(t)
	n, last := 0, ""
	run.Report = func(_ context.Context, e finetune.Event) error { n++; last = e.Message; return nil }
	train(t, run, `yes '{"type":"metrics","step":1,"train_loss":1}' | head -n 20000; touch "$FREEHOLD_OUTPUT/x"`)
	if n > 3000 || n < 1000 || !strings.Contains(last, "left out") {
		t.Errorf("%d events were told, the last %q", n, last)
	}
}

// The job's row may say that it has ended before the queue says cancelled: what was
// begun elsewhere is to be removed then, too.
func TestEndedJobIsCancelled(t *testing.T) {
	t.Parallel()
	for err, told := range map[error]bool{tenantdb.ErrEndedJob: true, tenantdb.ErrLostJob: false} {
		run := simple(t)
		run.Report = func(context.Context, finetune.Event) error { return fmt.Errorf("report: %w", err) }
		_, got := trainer(t, `trap 'touch "$FREEHOLD_OUTPUT/told"; exit' TERM; echo '{"type":"message","message":"m"}'; while :; do sleep 0.02; done`).Train(t.Context(), run)
		if !errors.Is(got, err) {
			t.Errorf("%v, want %v", got, err)
		}
		if _, err := os.Stat(filepath.Join(run.Out, "told")); (err == nil) != told {
			t.Errorf("%v: told %v", got, !told)
		}
	}
}

func TestCommandsThatAreNotSafe(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"good": "", "also-good.sh": "", "open": "", "plain": "", ".hidden": "", "bad name": ""})
	if err := errors.Join(os.Chmod(filepath.Join(dir, "open"), 0o775), os.Chmod(filepath.Join(dir, "plain"), 0o644),
		os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.Symlink("good", filepath.Join(dir, "linked")),
		os.Symlink("open", filepath.Join(dir, "linked-open")), os.Symlink("nowhere", filepath.Join(dir, "dangling"))); err != nil {
		t.Fatal(err)
	}
	names, err := command.Names(dir)
	if want := []string{"also-good.sh", "good", "linked"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("commands %q, %v; want %q", names, err, want)
	}
	for _, name := range []string{"open", "plain", ".hidden", "bad name", "sub", "linked-open", "dangling", "missing", "", "../" + filepath.Base(dir) + "/good"} {
		if _, err := command.New(command.Config{Dir: dir, Name: name}); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
	tr, err := command.New(command.Config{Dir: dir, Name: "good"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "good"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Train(t.Context(), simple(t)); !errors.Is(err, command.ErrUnsafe) {
		t.Errorf("changed meanwhile: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := command.Names(dir); !errors.Is(err, command.ErrUnsafe) {
		t.Errorf("a folder of everybody's: %v", err)
	}
	if _, err := command.New(command.Config{Dir: dir, Name: "linked"}); !errors.Is(err, command.ErrUnsafe) {
		t.Errorf("a folder of everybody's: %v", err)
	}
	if _, err := command.Names(filepath.Join(dir, "missing")); err == nil {
		t.Error("a folder that isn't there")
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	logs := t.TempDir()
	tr, err := command.New(command.Config{Dir: folder(t, map[string]string{"x": "echo why >&2; exit 1"}), Name: "x", Logs: logs, MostBytes: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Train(t.Context(), simple(t)); err == nil || strings.Contains(err.Error(), "why") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(filepath.Join(logs, "ftjob-0199.log")); err != nil || string(b) != "why\n" {
		t.Errorf("%q, %v", b, err)
	}
}
