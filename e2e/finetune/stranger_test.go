package finetune_test

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/openai/openai-go/v3"

	"freehold/tenantdb/blob"
)

// refused checks an answer's status.
func (c *tenant) refused(err error, status int) {
	c.Helper()
	if e, ok := errors.AsType[*openai.Error](err); !ok || e.StatusCode != status {
		c.Errorf("got %v, want status %d", err, status)
	}
}

// seesNothing checks that a stranger who knows every name gets, by each of them,
// what somebody gets who made the name up.
func (c *tenant) seesNothing(s story, base openai.FineTuningJobNewParamsModel) {
	c.Helper()
	for _, id := range c.models() {
		if strings.HasPrefix(id, "ft:") {
			c.Errorf("model %s is listed", id)
		}
	}
	jobs, err := c.FineTuning.Jobs.List(c.Context(), openai.FineTuningJobListParams{})
	c.ok(err)
	tagged, err := c.FineTuning.Jobs.List(c.Context(), openai.FineTuningJobListParams{Metadata: s.job.Metadata})
	c.ok(err)
	files, err := c.Files.List(c.Context(), openai.FileListParams{})
	c.ok(err)
	if n := len(jobs.Data) + len(tagged.Data) + len(files.Data); n != 0 {
		c.Errorf("%d of another's jobs and files are listed", n)
	}
	file, _ := uuid.NewV7()
	job, _ := uuid.NewV7()
	model := s.job.FineTunedModel
	for what, byName := range map[string]struct {
		theirs, madeUp string
		try            func(name string) error
	}{
		"the model": {model, madeUp(model), func(name string) error {
			_, err := c.Models.Get(c.Context(), name)
			return err
		}},
		"the model's removal": {model, madeUp(model), func(name string) error {
			_, err := c.Models.Delete(c.Context(), name)
			return err
		}},
		"the model in chat": {model, madeUp(model), func(name string) error {
			_, err := c.ask(name, train[0].question)
			return err
		}},
		"the model in predictions": {model, madeUp(model), func(name string) error {
			_, err := c.predict(name, train[0].question)
			return err
		}},
		"the model in embeddings": {model, madeUp(model), func(name string) error {
			_, err := c.Embeddings.New(c.Context(), openai.EmbeddingNewParams{
				Model: name, Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("a")},
			})
			return err
		}},
		"the model as a base": {model, madeUp(model), func(name string) error {
			_, err := c.FineTuning.Jobs.New(c.Context(), openai.FineTuningJobNewParams{Model: openai.FineTuningJobNewParamsModel(name), TrainingFile: "file-" + file.String()})
			return err
		}},
		"the job": {s.job.ID, "ftjob-" + job.String(), func(name string) error {
			_, err := c.FineTuning.Jobs.Get(c.Context(), name)
			return err
		}},
		"the job's events": {s.job.ID, "ftjob-" + job.String(), func(name string) error {
			_, err := c.FineTuning.Jobs.ListEvents(c.Context(), name, openai.FineTuningJobListEventsParams{})
			return err
		}},
		"the job's checkpoints": {s.job.ID, "ftjob-" + job.String(), func(name string) error {
			_, err := c.FineTuning.Jobs.Checkpoints.List(c.Context(), name, openai.FineTuningJobCheckpointListParams{})
			return err
		}},
		"the job's cancellation": {s.job.ID, "ftjob-" + job.String(), func(name string) error {
			_, err := c.FineTuning.Jobs.Cancel(c.Context(), name)
			return err
		}},
		"the file": {s.file.ID, "file-" + file.String(), func(name string) error {
			_, err := c.Files.Get(c.Context(), name)
			return err
		}},
		"the file's content": {s.file.ID, "file-" + file.String(), func(name string) error {
			_, err := c.content(name)
			return err
		}},
		"the results' content": {s.job.ResultFiles[0], "file-" + file.String(), func(name string) error {
			_, err := c.content(name)
			return err
		}},
		"the file's removal": {s.file.ID, "file-" + file.String(), func(name string) error {
			_, err := c.Files.Delete(c.Context(), name)
			return err
		}},
		"the file as training data": {s.file.ID, "file-" + file.String(), func(name string) error {
			_, err := c.FineTuning.Jobs.New(c.Context(), openai.FineTuningJobNewParams{Model: base, TrainingFile: name})
			return err
		}},
	} {
		got, want := c.refusal(byName.try(byName.theirs), byName.theirs), c.refusal(byName.try(byName.madeUp), byName.madeUp)
		if got != want {
			c.Errorf("%s of another is refused with\n%s, one that isn't there with\n%s", what, got, want)
		}
		if !strings.HasPrefix(got, "404 ") && what != "the file as training data" && what != "the model as a base" {
			c.Errorf("%s: %s", what, got)
		}
	}
}

// madeUp is a name of the same form that no model has.
func madeUp(model string) string {
	i := strings.LastIndex(model, ":")
	return model[:i+1] + "00000000"
}

// guessesNothing checks that a stranger who knows the keys of another's objects comes
// to none: with its own handle, which is all that any code has for a tenant, or
// without a signature.
func (c *tenant) guessesNothing(owner *tenant) {
	c.Helper()
	theirs := c.store.Tenant(owner.id)
	keys := map[string]bool{}
	for _, folder := range []string{"files/", "models/"} {
		n := len(keys)
		c.ok(theirs.List(c.Context(), folder, func(o blob.Object) error {
			keys[o.Key] = true
			return nil
		}))
		if len(keys) == n {
			c.Errorf("the owner has no objects in %s", folder)
		}
	}
	mine := c.store.Tenant(c.id)
	c.ok(mine.List(c.Context(), "", func(o blob.Object) error {
		if strings.HasPrefix(o.Key, "files/") || strings.HasPrefix(o.Key, "models/") {
			c.Errorf("the stranger has %s", o.Key)
		}
		return nil
	}))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for key := range keys {
		body, _, err := theirs.Get(c.Context(), key)
		if err != nil {
			c.Errorf("the owner doesn't come to %s: %v", key, err)
		} else {
			_, _ = io.Copy(io.Discard, body)
			body.Close()
		}
		full := "tenants/" + owner.id.String() + "/" + key
		for _, guess := range []string{key, full, "../" + owner.id.String() + "/" + key, "files/../../" + owner.id.String() + "/" + key, "/" + full} {
			if body, _, err := mine.Get(c.Context(), guess); err == nil {
				body.Close()
				c.Errorf("the stranger reads %s", guess)
			} else if !errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrKey) {
				c.Errorf("%s: %v", guess, err)
			}
		}
		req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, c.blob.Endpoint+"/"+c.blob.Bucket+"/"+full, nil)
		c.ok(err)
		res, err := client.Do(req)
		c.ok(err)
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden {
			c.Errorf("%s without a signature: %s", key, res.Status)
		}
	}
}
