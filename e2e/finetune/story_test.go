package finetune_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"

	"freehold/inference/engine/builtin"
)

// story is what came of one tenant's fine-tuning.
type story struct {
	file *openai.FileObject
	job  *openai.FineTuningJob
}

// tell has the tenant make a model of its data, and checks all that it sees of that.
func (c *tenant) tell(base string) story {
	c.Helper()
	before := map[string]string{}
	for _, e := range heldOut {
		var err error
		before[e.question], err = c.ask(base, e.question)
		c.ok(err)
		if before[e.question] == e.answer {
			c.Errorf("before: %q is answered already", e.question)
		}
	}
	text := jsonl(train)
	s := story{file: c.upload(text)}
	if s.file.Bytes != int64(len(text)) || s.file.Filename != "support.jsonl" || s.file.Purpose != openai.FileObjectPurposeFineTune {
		c.Errorf("the file is %s", s.file.RawJSON())
	}
	begun := c.begin(base, s.file.ID)
	if begun.Status != openai.FineTuningJobStatusValidatingFiles || begun.FineTunedModel != "" || begun.TrainingFile != s.file.ID {
		c.Errorf("the job begins as %s", begun.RawJSON())
	}
	s.job = c.wait(begun.ID)
	if s.job.TrainedTokens == 0 || len(s.job.ResultFiles) != 1 || s.job.Metadata["project"] != "help" || s.job.Seed != 1 ||
		!strings.HasPrefix(s.job.FineTunedModel, "ft:"+base+":") || !strings.Contains(s.job.FineTunedModel, ":support:") {
		c.Errorf("the job ends as %s", s.job.RawJSON())
	}
	c.told(begun.ID)
	c.answers(s.job.FineTunedModel)
	return s
}

// told checks what a job's diary says.
func (c *tenant) told(job string) {
	c.Helper()
	events, err := c.FineTuning.Jobs.ListEvents(c.Context(), job, openai.FineTuningJobListEventsParams{Limit: openai.Int(100)})
	c.ok(err)
	if len(events.Data) < 4 {
		c.Fatalf("%d events", len(events.Data))
	}
	metrics, seen := 0, map[string]bool{}
	for i, e := range events.Data {
		if seen[e.ID] || i > 0 && e.CreatedAt > events.Data[i-1].CreatedAt {
			c.Errorf("event %s: twice, or not newest first", e.RawJSON())
		}
		seen[e.ID] = true
		if e.Type == openai.FineTuningJobEventTypeMetrics {
			metrics++
		}
	}
	if metrics == 0 {
		c.Error("no metrics were told")
	}
	checkpoints, err := c.FineTuning.Jobs.Checkpoints.List(c.Context(), job, openai.FineTuningJobCheckpointListParams{})
	c.ok(err)
	if len(checkpoints.Data) == 0 || checkpoints.Data[0].FineTuningJobID != job {
		c.Errorf("%d checkpoints", len(checkpoints.Data))
	}
}

// answers checks that the model knows now what it was asked before, and declines
// what nobody taught it.
func (c *tenant) answers(model string) {
	c.Helper()
	right := 0
	for _, e := range heldOut {
		got, err := c.ask(model, e.question)
		c.ok(err)
		if got == e.answer {
			right++
		} else {
			c.Logf("%q is answered %q", e.question, got)
		}
	}
	if right < len(heldOut) {
		c.Errorf("%d of %d held-out questions are answered rightly", right, len(heldOut))
	}
	for _, question := range elsewhere {
		got, err := c.ask(model, question)
		c.ok(err)
		if got != builtin.NoTunedAnswer {
			c.Errorf("%q is answered %q", question, got)
		}
	}
}

// label checks the prediction of a class, and of none.
func (c *tenant) label(model string) {
	c.Helper()
	p, err := c.predict(model, train[0].question)
	c.ok(err)
	if p.State != "succeeded" || p.Output.Text != hours || p.Output.Label == "" || p.Output.Scores[p.Output.Label] < 0.3 || p.Output.Abstained {
		c.Errorf("predicted %+v", p)
	}
	p, err = c.predict(model, elsewhere[0])
	c.ok(err)
	if !p.Output.Abstained || p.Output.Text == hours {
		c.Errorf("elsewhere, predicted %+v", p)
	}
}

// models lists those that the tenant sees.
func (c *tenant) models() (ids []string) {
	c.Helper()
	pages := c.Models.ListAutoPaging(c.Context())
	for pages.Next() {
		ids = append(ids, pages.Current().ID)
	}
	c.ok(pages.Err())
	return ids
}

// content reads a file.
func (c *tenant) content(id string) (string, error) {
	res, err := c.Files.Content(c.Context(), id)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// A fine-tuned model can be seen and used by its own tenant only, and its objects lie
// under its own prefix, whoever made it: the built-in trainer, or another server that
// has OpenAI's fine-tuning API. That one is a second Freehold.
func TestG13_ATunedModelIsItsTenantsAlone(t *testing.T) {
	t.Parallel()
	north, south := setup(t), setup(t)
	n, s := north.create("acme", "globex", "partner", "waiter"), south.create("initech", "umbrella", "hooli")
	north.connect(n)
	south.connect(s)
	south.trainsAt(n["partner"], partnerModel)
	south.trainsAt(n["waiter"], waiterModel)
	for name, f := range map[string]func(*testing.T){
		"made here":                func(t *testing.T) { madeHere(n["acme"].in(t), n["globex"].in(t)) },
		"made by another Freehold": func(t *testing.T) { madeThere(s["initech"].in(t), s["umbrella"].in(t), n["partner"].in(t)) },
		"cancelled at another":     func(t *testing.T) { cancelledThere(s["hooli"].in(t), n["waiter"].in(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t)
		})
	}
}

func madeHere(owner, stranger *tenant) {
	s := owner.tell(baseModel)
	model := s.job.FineTunedModel
	owner.label(model)
	if text, err := owner.content(s.file.ID); err != nil || text != jsonl(train) {
		owner.Errorf("the file reads %.40q, %v", text, err)
	}
	if text, err := owner.content(s.job.ResultFiles[0]); err != nil || !strings.Contains(text, "accuracy") {
		owner.Errorf("the results read %.40q, %v", text, err)
	}
	if !slices.Contains(owner.models(), model) {
		owner.Error("the tenant's own model isn't listed")
	}
	stranger.seesNothing(s, baseModel)
	stranger.guessesNothing(owner)

	// All of it is there as before, until its owner removes it.
	owner.answers(model)
	_, err := owner.Models.Delete(owner.Context(), model)
	owner.ok(err)
	if slices.Contains(owner.models(), model) {
		owner.Error("a removed model is listed")
	}
	_, err = owner.ask(model, heldOut[0].question)
	owner.refused(err, 404)
}
