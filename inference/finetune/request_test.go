package finetune_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"freehold/inference/finetune"
)

const someFile = "file-01890000-0000-7000-8000-000000000000"

func TestParseRequest(t *testing.T) {
	t.Parallel()
	whole := `{"model":"m","training_file":"` + someFile + `","validation_file":null,"suffix":"a.b-c_1","seed":0,
		"method":{"type":"supervised","supervised":{"hyperparameters":{"n_epochs":3,"batch_size":"auto","learning_rate_multiplier":0.5}}},
		"metadata":{"a":"b"},"integrations":[]}`
	req, err := finetune.ParseRequest([]byte(whole))
	if err != nil || req.Model != "m" || finetune.FilePrefix+req.TrainingFile.String() != someFile || req.ValidationFile != uuid.Nil ||
		req.Suffix != "a.b-c_1" || req.Seed == nil || *req.Seed != 0 || req.Metadata["a"] != "b" ||
		req.Method != (finetune.Method{Type: "supervised", Epochs: 3, LearningRateMultiplier: 0.5}) {
		t.Fatalf("%+v: %v", req, err)
	}
	for body, param := range map[string]string{
		`[]`: "", `{`: "", "{\"model\":\"\xff\"}": "",
		`{"training_file":"` + someFile + `"}`:                                                  "model",
		`{"model":"m"}`:                                                                         "training_file",
		`{"model":"m","training_file":"file-x"}`:                                                "training_file",
		`{"model":"m","training_file":"` + strings.ToUpper(someFile) + `"}`:                     "training_file",
		`{"model":"m","training_file":"` + someFile + `","validation_file":"` + someFile + `"}`: "validation_file",
		with(`"suffix":""`):                                                                     "suffix", with(`"suffix":"a b"`): "suffix", with(`"suffix":"` + strings.Repeat("a", 65) + `"`): "suffix",
		with(`"seed":2147483648`): "seed", with(`"seed":1.5`): "seed",
		with(`"hyperparameters":{"n_epochs":0}`): "hyperparameters.n_epochs", with(`"hyperparameters":{"batch_size":257}`): "hyperparameters.batch_size",
		with(`"hyperparameters":{"learning_rate_multiplier":0}`):    "hyperparameters.learning_rate_multiplier",
		with(`"hyperparameters":{"beta":1}`):                        "hyperparameters.beta",
		with(`"hyperparameters":{},"method":{"type":"supervised"}`): "hyperparameters",
		with(`"method":{}`): "method.type", with(`"method":{"type":"reinforcement"}`): "method.type",
		with(`"method":{"type":"supervised","dpo":{}}`):             "method.dpo",
		with(`"method":{"type":"supervised","supervised":{"x":1}}`): "method.supervised.x",
		with(`"metadata":{"":"a"}`):                                 "metadata",
		with(`"metadata":{"a":"` + strings.Repeat("x", 513) + `"}`): "metadata",
		with(`"integrations":[{}]`):                                 "integrations",
		with(`"Was ist mit meiner Rechnung?":1`):                    "",
	} {
		_, err := finetune.ParseRequest([]byte(body))
		refused, ok := errors.AsType[*finetune.Refused](err)
		if !ok || refused.Param != param {
			t.Errorf("%.80s: %v, want a refusal of %q", body, err, param)
		}
		if err != nil && strings.Contains(err.Error(), "Rechnung") {
			t.Errorf("the refusal repeats what was sent: %v", err)
		}
	}
}

// with is a request with one more member.
func with(member string) string {
	return `{"model":"m","training_file":"` + someFile + `",` + member + `}`
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(with(`"seed":1`)))
	f.Add([]byte(`{"method":{"type":"supervised","supervised":{"hyperparameters":{"n_epochs":"auto"}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := finetune.ParseRequest(body)
		if err == nil && (req.Model == "" || req.TrainingFile == uuid.Nil) {
			t.Fatalf("accepted without what is required: %+v", req)
		}
		if _, ok := errors.AsType[*finetune.Refused](err); err != nil && !ok {
			t.Fatalf("no refusal: %v", err)
		}
	})
}
