package finetune_test

import (
	"slices"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"

	"freehold/catalog"
)

// Models whose engine, a second Freehold, fine-tunes them as well, with its tenants
// partner and waiter.
const (
	partnerModel = "north-answer"
	waiterModel  = "north-later"
)

// trainsAt gives the platform a model that another one fine-tunes and serves, where
// the platform is a tenant itself.
func (p *platform) trainsAt(there *tenant, model string) {
	p.Helper()
	_, err := p.cat.AddEngine(p.Context(), catalog.EngineSpec{Name: model, Kind: "openai", BaseURL: there.api, Key: there.key})
	p.ok(err)
	_, err = p.cat.AddModel(p.Context(), catalog.Model{
		Name: model, Engine: model, Upstream: baseModel, Kind: "chat", Trainer: "openai",
	})
	p.ok(err)
}

// A job that the other server doesn't come to is cancelled, here and there.
func cancelledThere(owner, waiter *tenant) {
	none := 0
	_, err := waiter.fleet.PatchConfig(owner.Context(), waiter.id, catalog.ConfigPatch{FineTuningRunningLimit: &none})
	owner.ok(err)
	owner.knows(waiterModel)
	job := owner.begin(waiterModel, owner.upload(jsonl(train)).ID)
	waiter.soon("a job there", func() bool { return len(waiter.jobs()) == 1 })
	if j := waiter.jobs()[0]; j.Metadata["freehold_job"] != job.ID || j.Model != baseModel {
		owner.Errorf("the job there is %s", j.RawJSON())
	}
	if j, err := owner.FineTuning.Jobs.Cancel(owner.Context(), job.ID); err != nil || j.Status != openai.FineTuningJobStatusCancelled {
		owner.Errorf("cancelled: %v, %v", j, err)
	}
	waiter.soon("the cancellation there", func() bool {
		return waiter.jobs()[0].Status == openai.FineTuningJobStatusCancelled && len(waiter.files()) == 0
	})
}

func madeThere(owner, stranger, partner *tenant) {
	owner.knows(partnerModel)
	s := owner.tell(partnerModel)
	jobs := partner.jobs()
	if len(jobs) != 1 || jobs[0].Metadata["freehold_job"] != s.job.ID || jobs[0].Seed != 1 {
		owner.Fatalf("%d jobs there, the last one %s", len(jobs), jobs[0].RawJSON())
	}
	if n := len(partner.files()); n != 0 {
		owner.Errorf("%d files are left there", n)
	}
	stranger.seesNothing(s, partnerModel)

	// The other server's names are its own.
	events, err := owner.FineTuning.Jobs.ListEvents(owner.Context(), s.job.ID, openai.FineTuningJobListEventsParams{Limit: openai.Int(100)})
	owner.ok(err)
	for _, name := range []string{jobs[0].ID, jobs[0].FineTunedModel, jobs[0].TrainingFile, "partner", partner.key} {
		if strings.Contains(events.RawJSON(), name) || strings.Contains(s.job.RawJSON(), name) {
			owner.Errorf("the tenant is told %q", name)
		}
	}
	_, err = owner.ask(jobs[0].FineTunedModel, heldOut[0].question)
	owner.refused(err, 404)
}

// knows waits until the tenant's node has heard of a model.
func (c *tenant) knows(model string) {
	c.Helper()
	c.soon("model "+model, func() bool { return slices.Contains(c.models(), model) })
}

// jobs are the newest of the tenant's.
func (c *tenant) jobs() []openai.FineTuningJob {
	c.Helper()
	page, err := c.FineTuning.Jobs.List(c.Context(), openai.FineTuningJobListParams{})
	c.ok(err)
	return page.Data
}

// files are the uploads that are there.
func (c *tenant) files() []openai.FileObject {
	c.Helper()
	page, err := c.Files.List(c.Context(), openai.FileListParams{Purpose: openai.String("fine-tune")})
	c.ok(err)
	return page.Data
}

// soon waits until something is so.
func (p *platform) soon(what string, so func() bool) {
	p.Helper()
	for until := time.Now().Add(jobTime); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			p.Fatalf("%s isn't there after %v", what, jobTime)
		}
	}
}
