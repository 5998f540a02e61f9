package api_test

import (
	"fmt"
	"strings"
	"testing"

	"freehold/catalog"
)

type jobAnswer struct {
	ID             string
	Object, Status string
	Model          string
	TrainingFile   string  `json:"training_file"`
	FineTunedModel *string `json:"fine_tuned_model"`
	Error          *struct{ Code string }
	Metadata       map[string]string
	ResultFiles    []string `json:"result_files"`
}

type jobList struct {
	Data    []jobAnswer
	HasMore bool `json:"has_more"`
}

// Jobs, as a tenant has them while no worker is there.
func testJobs(t *testing.T, c *drawer) {
	const jobs = "/v1/fine_tuning/jobs"
	_, err := c.Catalog.SetModel(t.Context(), "chat-1", catalog.ModelPatch{Trainer: new("builtin")})
	c.OK(err)
	queue := 4
	_, _, err = c.Catalog.PatchConfig(t.Context(), c.acme.ID, catalog.ConfigPatch{FineTuningQueueLimit: &queue})
	c.OK(err)
	file := uploaded(c.client, asGo("{}\n", "fine-tune")...)
	data := uploaded(c.client, asGo("{}\n", "user_data")...)
	_, strange := c.tenant()
	theirs := uploaded(strange, asGo("{}\n", "fine-tune")...)
	body := func(more string) string {
		return fmt.Sprintf(`{"model":"chat-1","training_file":%q%s}`, file.ID, more)
	}

	c.Until("the node has heard of the trainer", func() bool {
		return c.client.Do("POST", jobs, strings.Replace(body(""), file.ID, theirs.ID, 1)).Status == 404
	})

	for what, refused := range map[string]struct {
		body   string
		status int
		code   string
		param  string
	}{
		"no model":            {`{"training_file":"` + file.ID + `"}`, 400, "invalid_request", "model"},
		"no such model":       {strings.Replace(body(""), "chat-1", "none", 1), 404, "model_not_found", "model"},
		"no tunable model":    {strings.Replace(body(""), "chat-1", "chat-2", 1), 404, "model_not_found", "model"},
		"a tuned one":         {strings.Replace(body(""), "chat-1", "ft:chat-1:x::1", 1), 404, "model_not_found", "model"},
		"an embedding's":      {strings.Replace(body(""), "chat-1", "embed-1", 1), 400, "invalid_request", "model"},
		"no file's id":        {strings.Replace(body(""), file.ID, "file-1", 1), 400, "invalid_request", "training_file"},
		"data of another use": {strings.Replace(body(""), file.ID, data.ID, 1), 404, "not_found", "training_file"},
		"another tenant's":    {strings.Replace(body(""), file.ID, theirs.ID, 1), 404, "not_found", "training_file"},
		"theirs to validate":  {body(`,"validation_file":"` + theirs.ID + `"`), 404, "not_found", "validation_file"},
		"itself to validate":  {body(`,"validation_file":"` + file.ID + `"`), 400, "invalid_request", "validation_file"},
		"a suffix":            {body(`,"suffix":"a:b"`), 400, "invalid_request", "suffix"},
		"a seed":              {body(`,"seed":-1`), 400, "invalid_request", "seed"},
		"epochs":              {body(`,"hyperparameters":{"n_epochs":51}`), 400, "invalid_request", "hyperparameters.n_epochs"},
		"a method":            {body(`,"method":{"type":"dpo"}`), 400, "invalid_request", "method.type"},
		"integrations":        {body(`,"integrations":[{"type":"wandb"}]`), 400, "invalid_request", "integrations"},
		"metadata":            {body(`,"metadata":{"a":1}`), 400, "invalid_request", "metadata"},
		"unknown":             {body(`,"colour":"red"`), 400, "invalid_request", "colour"},
	} {
		t.Log(what)
		c.client.Do("POST", jobs, refused.body).Refused(refused.status, refused.code, refused.param)
	}

	var one, again, other jobAnswer
	full := body(`,"suffix":"s-1","seed":5,"metadata":{"team":"red"},"method":{"type":"supervised","supervised":{"hyperparameters":{"n_epochs":"auto"}}}`)
	c.client.Do("POST", jobs, full, "Idempotency-Key", "k1").Into(200, &one)
	if one.Object != "fine_tuning.job" || one.Status != "validating_files" || one.TrainingFile != file.ID || one.FineTunedModel != nil ||
		one.Error != nil || one.Metadata["team"] != "red" || one.ResultFiles == nil {
		t.Errorf("%+v", one)
	}
	c.client.Do("POST", jobs, full, "Idempotency-Key", "k1").Into(200, &again)
	if again.ID != one.ID {
		t.Error("the same request under one Idempotency-Key makes two jobs")
	}
	c.client.Do("POST", jobs, body(""), "Idempotency-Key", "k1").Refused(422, "idempotency_mismatch", "Idempotency-Key")
	c.client.Do("POST", "/v1/fine-tuning/jobs", body("")).Into(200, &other)
	c.client.Do("POST", "/v1/fine-tuning/jobs", body(""), "X-Stainless-Retry-Count", "1").Into(200, &again)
	if other.ID == one.ID || again.ID != other.ID {
		t.Errorf("a library's second try makes %s, the first made %s", again.ID, other.ID)
	}
	c.client.Do("POST", jobs, body("")).Into(200, &again) // asked for on purpose
	c.client.Do("POST", jobs, body(`,"seed":1`)).Into(200, &again)
	a := c.client.Do("POST", jobs, body(`,"seed":2`))
	a.Refused(429, "rate_limit_exceeded", "")
	if a.Header.Get("X-Should-Retry") != "false" {
		t.Error("libraries would ask again of a full queue")
	}
	// A full queue keeps nobody from hearing of what was made before.
	c.client.Do("POST", jobs, full, "Idempotency-Key", "k1").Into(200, &again)
	if again.ID != one.ID {
		t.Errorf("a full queue answers with %s", again.ID)
	}
	c.client.Do("DELETE", "/v1/files/"+file.ID, "").Refused(409, "conflict", "")

	var page jobList
	c.client.Do("GET", jobs+"?limit=3", "").Into(200, &page)
	if len(page.Data) != 3 || !page.HasMore {
		t.Fatalf("first page: %d jobs, more %v", len(page.Data), page.HasMore)
	}
	c.client.Do("GET", jobs+"?limit=3&after="+page.Data[2].ID, "").Into(200, &page)
	if len(page.Data) != 1 || page.HasMore || page.Data[0].ID != one.ID {
		t.Errorf("second page: %+v", page)
	}
	c.client.Do("GET", jobs+"?metadata[team]=red", "").Into(200, &page)
	if len(page.Data) != 1 || page.Data[0].ID != one.ID {
		t.Errorf("by metadata: %+v", page)
	}

	var events struct {
		Data []struct{ ID, Message, Type string }
	}
	c.client.Do("GET", jobs+"/"+one.ID+"/events", "").Into(200, &events)
	if len(events.Data) != 1 || !strings.Contains(events.Data[0].Message, one.ID) || events.Data[0].Type != "message" {
		t.Errorf("events: %+v", events)
	}
	c.client.Do("GET", jobs+"/"+one.ID+"/checkpoints", "").Into(200, &page)

	c.client.Do("POST", jobs+"/"+one.ID+"/cancel", "").Into(200, &again)
	if again.Status != "cancelled" {
		t.Errorf("cancelled: %+v", again)
	}
	c.client.Do("POST", jobs+"/"+one.ID+"/cancel", "").Refused(409, "conflict", "")
	c.client.Do("POST", jobs, body(`,"seed":3`)).Into(200, &again) // its place is free

	// To another tenant none of this is there.
	for _, path := range []string{"", "/events", "/checkpoints"} {
		strange.Do("GET", jobs+"/"+one.ID+path, "").Refused(404, "not_found", "")
	}
	strange.Do("POST", jobs+"/"+one.ID+"/cancel", "").Refused(404, "not_found", "")
	strange.Do("GET", jobs, "").Into(200, &page)
	if len(page.Data) != 0 {
		t.Errorf("another tenant is shown %+v", page.Data)
	}
}
