package command_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"freehold/inference/finetune"
	"freehold/inference/finetune/command"
	"freehold/inference/finetune/trainertest"
)

// examplesDir is found before a store moves the process into its folder.
var examplesDir, _ = filepath.Abs("examples")

// example is one of the scripts, with programs that stand in for those that it runs;
// DIR is theirs to write to.
func example(t testing.TB, name, conf string, programs map[string]string) (tr *command.Trainer, dir string) {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(examplesDir, name))
	if err != nil {
		t.Fatal(err)
	}
	at, stubs, dir := folder(t, nil), t.TempDir(), t.TempDir()
	for program, content := range programs {
		put(t, filepath.Join(stubs, program), "#!/bin/sh\n"+content, 0o755)
	}
	put(t, filepath.Join(at, name), string(script), 0o755)
	put(t, filepath.Join(at, name+".conf"), "export PATH="+stubs+":$PATH DIR="+dir+"\n"+conf, 0o644)
	if tr, err = command.New(command.Config{Dir: at, Name: name, Logs: dir, Eager: true}); err != nil {
		t.Fatal(err)
	}
	return tr, dir
}

func content(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	return string(b)
}

func TestExamplesAreShell(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"trl.sh", "kubernetes.sh"} {
		if out, err := exec.Command("sh", "-n", filepath.Join(examplesDir, name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

// trl prints what TRL does, by two releases of transformers.
const trl = `
echo "$@" >"$DIR/trl"
while [ $# -gt 0 ]; do [ "$1" != --output_dir ] || out=$2; shift; done
echo "Loading {'loss': of words}"
echo "{'loss': 1.25, 'grad_norm': 3.5, 'learning_rate': 2e-04, 'num_tokens': 1500.0, 'mean_token_accuracy': 0.5, 'epoch': 0.33}"
echo "{'loss': '5e-01', 'learning_rate': '1e-04', 'num_tokens': '3000', 'epoch': '0.67'}"
echo "{'eval_loss': 0.75, 'eval_mean_token_accuracy': 0.8, 'epoch': 1.0}"
echo "{'loss': nan, 'grad_norm': nan}"
echo "{'train_runtime': 9.1, 'train_loss': 0.8}"
mkdir "$out"; echo weights >"$out/adapter_model.safetensors"; echo '{}' >"$out/adapter_config.json"; echo x >"$out/README.md"
`

// curl is vLLM, which has the adapter already when an earlier try loaded it.
const curl = `
echo "$@" >>"$DIR/curl"
while [ $# -gt 0 ]; do case $1 in -K) cat "$2" >>"$DIR/key";; -o) out=$2;; esac; shift; done
echo 'has already been loaded' >"$out"
printf "$STATUS"
`

func TestTRL(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"200", "400", "500", ""} {
		t.Run("vLLM says "+status, func(t *testing.T) {
			t.Parallel()
			key := filepath.Join(t.TempDir(), "key")
			put(t, key, "hunter2\n", 0o600)
			conf := "OPTIONS='--dtype bfloat16' ADAPTERS=$DIR/adapters\n"
			if status != "" {
				conf += "export STATUS=" + status + "; VLLM_URL=http://vllm VLLM_KEY_FILE=" + key + "\n"
			}
			tr, dir := example(t, "trl.sh", conf, map[string]string{"trl": trl, "curl": curl})
			run := simple(t)
			run.Validation = run.Train
			run.Job.Method.LearningRateMultiplier, run.Job.Method.Epochs = 0.5, 7
			var metrics []map[string]float64
			var steps []int64
			run.Report = func(_ context.Context, e finetune.Event) error {
				metrics, steps = append(metrics, e.Metrics), append(steps, e.Step)
				return nil
			}
			result, err := tr.Train(t.Context(), run)
			if status == "500" {
				if err == nil {
					t.Error("vLLM failed, and nobody said so")
				}
				return
			}
			if err != nil {
				t.Fatal(err, content(t, filepath.Join(dir, "ftjob-0199.log")))
			}
			if len(metrics) != 3 || steps[2] != 2 || metrics[0]["train_loss"] != 1.25 || metrics[0]["train_mean_token_accuracy"] != 0.5 ||
				metrics[1]["train_loss"] != 0.5 || len(metrics[1]) != 1 || metrics[2]["full_valid_loss"] != 0.75 || metrics[2]["full_valid_mean_token_accuracy"] != 0.8 {
				t.Errorf("metrics %v at %v", metrics, steps)
			}
			if result.TrainedTokens != 3000 || result.Card["rank"] != 16.0 || read(t, run, "adapter_model.safetensors") != "weights\n" {
				t.Errorf("%+v", result)
			}
			if files := below(t, run.Out); len(files) != 2 {
				t.Errorf("the artifact is %v", files)
			}
			args := content(t, filepath.Join(dir, "trl"))
			for _, want := range []string{"sft --model_name_or_path org/small-1b ", "--num_train_epochs 7", "--learning_rate 0.0001", "--seed 5", "--dtype bfloat16", "--dataset_test_split validation"} {
				if !strings.Contains(args, want) {
					t.Errorf("%q isn't in %q", want, args)
				}
			}
			if status == "" {
				if result.Upstream != "" {
					t.Errorf("served as %q by nobody", result.Upstream)
				}
				return
			}
			asked := content(t, filepath.Join(dir, "curl"))
			if result.Upstream != "ftjob-0199" || content(t, filepath.Join(dir, "adapters", "ftjob-0199", "adapter_config.json")) != "{}\n" ||
				!strings.Contains(asked, `{"lora_name":"ftjob-0199","lora_path":"`+dir+`/adapters/ftjob-0199"} http://vllm/v1/load_lora_adapter`) {
				t.Errorf("%q, asked %q", result.Upstream, asked)
			}
			if strings.Contains(asked, "hunter2") || !strings.Contains(content(t, filepath.Join(dir, "key")), "Bearer hunter2") {
				t.Error("the key is in an argument, or nowhere")
			}
		})
	}
	t.Run("fails", func(t *testing.T) {
		t.Parallel()
		tr, _ := example(t, "trl.sh", "", map[string]string{"trl": "exit 9", "curl": curl})
		if _, err := tr.Train(t.Context(), simple(t)); err == nil || !strings.Contains(err.Error(), "status 9") {
			t.Errorf("%v", err)
		}
	})
}

// kubectl is a cluster of one namespace. Its jobs end at once, or with SLOW never.
const kubectl = `
[ "$1 $2" = "--namespace training" ] || exit 9
shift 2
echo "$@" >>"$DIR/calls"
mkdir -p "$DIR/jobs"
job="$DIR/jobs/$FREEHOLD_JOB_ID"
case "$1 $2" in
"apply -f")
	cat >"$DIR/manifest"
	[ -e "$job" ] || echo begun >>"$DIR/begun"
	: >"$job"
	if grep -q spoilt "$FREEHOLD_DATA/train.jsonl"; then echo Failed >"$job"
	elif [ -z "$SLOW" ]; then echo SuccessCriteriaMet Complete >"$job"; fi ;;
"get job") cat "$job" 2>/dev/null || : ;;
"logs --follow")
	echo '{"type":"metrics","step":1,"train_loss":0.5}'
	if grep -q Failed "$job"; then echo '{"type":"failure","message":"The data is no good."}'; exit; fi
	while ! grep -q Complete "$job"; do sleep 0.02; done
	echo '{"type":"result","model":"adapter-'$FREEHOLD_JOB_ID'","trained_tokens":7}' ;;
"delete job" | "delete job,secret") rm -f "$job" ;;
*) exit 9 ;;
esac
`

func cluster(t testing.TB, slow string) (*command.Trainer, string) {
	t.Helper()
	return example(t, "kubernetes.sh", "NAMESPACE=training IMAGE=registry.example.com/trl:1\nexport SLOW="+slow+"\n", map[string]string{"kubectl": kubectl})
}

// A command that works elsewhere: what it began is removed by a cancel alone, and
// found by the next try.
func TestKubernetesConforms(t *testing.T) {
	t.Parallel()
	trainertest.Run(t, func(t *testing.T) trainertest.Fixture {
		tr, dir := cluster(t, "")
		slow, slowDir := cluster(t, "1")
		// One cluster.
		if err := os.RemoveAll(slowDir); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(dir, slowDir); err != nil {
			t.Fatal(err)
		}
		return trainertest.Fixture{
			Trainer: tr, Slow: slow, Base: base, Objects: objects(t),
			Spoil: func(t *testing.T, run *finetune.Run) { put(t, run.Train, "spoilt\n", 0o600) },
			Elsewhere: &trainertest.Elsewhere{
				Begun: func() int { return strings.Count(content(t, filepath.Join(dir, "begun")), "begun") },
				Running: func() int {
					jobs, err := os.ReadDir(filepath.Join(dir, "jobs"))
					if err != nil && !os.IsNotExist(err) {
						t.Error(err)
					}
					return len(jobs)
				},
			},
			Secrets: []string{"X-Amz"},
		}
	})
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	tr, dir := cluster(t, "")
	run := staged(t)
	run.Job.Method.Epochs = 4
	result, err := tr.Train(t.Context(), run)
	if err != nil {
		t.Fatal(err, content(t, filepath.Join(dir, "ftjob-0199.log")))
	}
	if result.Upstream != "adapter-ftjob-0199" || result.TrainedTokens != 7 {
		t.Errorf("%+v", result)
	}
	manifest, calls := content(t, filepath.Join(dir, "manifest")), content(t, filepath.Join(dir, "calls"))
	secret, job, _ := strings.Cut(manifest, "---\n")
	if len(regexp.MustCompile(`  (train|output): 'http.*X-Amz-Signature=[0-9a-f]+.*'\n`).FindAllString(secret, -1)) != 2 || strings.Contains(job, "http") {
		t.Errorf("addresses that aren't in the Secret alone: %s", regexp.MustCompile(`'http[^']*'`).ReplaceAllString(manifest, "ADDRESS"))
	}
	for _, want := range []string{"{name: FREEHOLD_EPOCHS, value: '4'}", "{name: FREEHOLD_SEED, value: '5'}", "image: 'registry.example.com/trl:1'", `fetch "$TRAIN_URL" /job`} {
		if !strings.Contains(job, want) {
			t.Errorf("%s isn't in %s", want, job)
		}
	}
	if strings.Contains(calls, "http") || !strings.HasSuffix(calls, "delete job,secret ftjob-0199 --ignore-not-found --wait=false\n") {
		t.Errorf("calls %q", calls)
	}
}

// What ends a string in a manifest isn't put into one.
func TestKubernetesRefusesQuotes(t *testing.T) {
	t.Parallel()
	tr, dir := cluster(t, "")
	run := staged(t)
	run.Job.Model = "ft:small:acme:x', value: 'y"
	if _, err := tr.Train(t.Context(), run); err == nil || content(t, filepath.Join(dir, "calls")) != "" {
		t.Errorf("%v, calls %q", err, content(t, filepath.Join(dir, "calls")))
	}
}

// A connection that breaks loses no line and doubles none.
func TestKubernetesFollowsOn(t *testing.T) {
	t.Parallel()
	const breaks = `
shift 2
case "$1 $2" in
"get job") cat "$DIR/state" 2>/dev/null || : ;;
"logs --follow")
	echo '{"type":"metrics","step":1,"train_loss":1}'
	[ -e "$DIR/broke" ] || { echo >"$DIR/broke"; exit 1; }
	echo '{"type":"metrics","step":2,"train_loss":1}'
	echo Complete >"$DIR/state"
	echo '{"type":"result","model":"m"}' ;;
esac
cat >/dev/null
`
	tr, _ := example(t, "kubernetes.sh", "", map[string]string{"kubectl": breaks, "sleep": ""})
	run := staged(t)
	var mu sync.Mutex
	var steps []int64
	run.Report = func(_ context.Context, e finetune.Event) error {
		mu.Lock()
		defer mu.Unlock()
		steps = append(steps, e.Step)
		return nil
	}
	if result, err := tr.Train(t.Context(), run); err != nil || result.Upstream != "m" {
		t.Fatalf("%+v, %v", result, err)
	}
	if len(steps) != 2 || steps[0] != 1 || steps[1] != 2 {
		t.Errorf("steps %v", steps)
	}
}
