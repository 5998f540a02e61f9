package admin_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"freehold/catalog"
)

type rolloutView struct {
	ID, Stream, State, Actor, Reason, Verdict string
	Target                                    int64
	Total, Done, Failed, Waiting              int
	Failures                                  []struct{ Kind, File string }
	Options                                   catalog.RolloutOptions
}

// begin is a request to roll out these files of the product.
func begin(t *testing.T, more string, files ...[2]string) string {
	t.Helper()
	list := []map[string]string{}
	for _, f := range files {
		list = append(list, map[string]string{"name": f[0], "body": f[1]})
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return `{"stream":"product","files":` + string(text) + more + `}`
}

var notes = [2]string{"00001_notes.sql", "-- +goose Up\ncreate schema app;\ncreate table app.notes (id bigint primary key);\n-- +goose Down\ndrop schema app cascade;\n"}

// Begun here, it is workers' to do; meanwhile it is looked at, given up and gone on with.
func TestRollouts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	b.Tenant("acme")
	b.Tenant("globex")
	const path = "/admin/v1/rollouts"
	var page list[rolloutView]
	c.Do("GET", path, "").Into(200, &page)
	if page.Data == nil || len(page.Data) > 0 {
		t.Errorf("before the first: %+v", page)
	}

	var made rolloutView
	c.Do("POST", path, begin(t, `,"no_lint":true,"canary":["acme"],"soak_seconds":0,"gate_latency":0,"budget":"5","deadline_seconds":3600`, notes)).Into(202, &made)
	o := made.Options
	if made.Stream != "product" || made.Target != 1 || made.State != catalog.RolloutRunning || made.Actor != catalog.HolderName ||
		o.Soak != 0 || o.GateLatency != 0 || o.GateFailures == 0 || o.Budget != "5" || o.StatementTimeout == 0 {
		t.Errorf("made %+v", made)
	}
	led, err := b.Catalog.Rollout(t.Context(), made.ID)
	b.OK(err)
	if led.Worker != "" || led.Deadline == nil {
		t.Errorf("not left to workers: %+v", led)
	}
	c.Do("POST", path, begin(t, "", notes)).Refused(409, "conflict", "")

	var shown rolloutView
	c.Do("GET", path+"/"+made.ID, "").Into(200, &shown)
	if shown.Total != 2 || shown.Waiting != 2 || shown.Failures == nil || !strings.HasPrefix(shown.Verdict, "running: 0 of 2 done, wave 1 of 2 (canary)") {
		t.Errorf("shown %+v", shown)
	}
	var targets list[struct{ Tenant, State string }]
	c.Do("GET", path+"/"+made.ID+"/targets?limit=1", "").Into(200, &targets)
	if len(targets.Data) != 1 || targets.Data[0].Tenant != "acme" || !targets.HasMore {
		t.Errorf("targets %+v", targets)
	}
	for query, want := range map[string]int{"after=acme": 1, "tenant=globex": 1, "state=failed": 0, "state=waiting": 2} {
		targets = list[struct{ Tenant, State string }]{}
		c.Do("GET", path+"/"+made.ID+"/targets?"+query, "").Into(200, &targets)
		if len(targets.Data) != want || targets.HasMore {
			t.Errorf("%s: %+v", query, targets)
		}
	}

	var now rolloutView
	c.Do("POST", path+"/"+made.ID+"/abort?reason=not+today", "").Into(200, &now)
	if now.State != catalog.RolloutAborted || now.Reason != "not today" {
		t.Errorf("aborted %+v", now)
	}
	c.Do("POST", path+"/"+made.ID+"/abort", "").Refused(409, "conflict", "")
	c.Do("POST", path+"/"+made.ID+"/resume", "").Refused(409, "conflict", "")

	// A worker does what the next one asks for, and what is resumed.
	c.Do("POST", path, begin(t, `,"no_lint":true,"waves":[100]`, notes)).Into(202, &made)
	c.Do("POST", path+"/"+made.ID+"/resume", "").Into(200, &now)
	if now.ID != made.ID || now.State != catalog.RolloutRunning {
		t.Errorf("resumed %+v", now)
	}
	_, err = b.Fleet.RunRollout(t.Context(), made.ID, false, nil)
	b.OK(err)
	c.Do("GET", path+"/"+made.ID, "").Into(200, &shown)
	if shown.State != catalog.RolloutDone || shown.Done != 2 || !strings.HasPrefix(shown.Verdict, "done: 2 tenants at version 1") {
		t.Errorf("done %+v", shown)
	}
	c.Do("POST", path, begin(t, "", notes)).Refused(409, "conflict", "") // there is nothing to do

	for query, want := range map[string]int{"": 2, "?state=aborted": 1, "?stream=freehold": 0, "?limit=1": 1, "?after=" + made.ID: 1} {
		page = list[rolloutView]{}
		c.Do("GET", path+query, "").Into(200, &page)
		if len(page.Data) != want || page.HasMore != (query == "?limit=1") {
			t.Errorf("%q: %+v", query, page)
		}
	}
	b.audited("rollout.begin", "rollout.abort", "rollout.begin", "rollout.resume")
}

// What is wrong with a request is said by the name that it has there.
func TestRolloutMistakes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	acme, _ := b.Tenant("acme")
	const path = "/admin/v1/rollouts"
	for body, param := range map[string]string{
		`{}`: "stream", `{"stream":"x"}`: "stream", `{"stream":"product"}`: "files", `{"stream":"product","colour":1}`: "colour",
		`{"stream":"freehold","files":[{"name":"00001_a.sql","body":""}]}`:                               "files",
		begin(t, "", [2]string{"../../etc/passwd", "x"}):                                                 "files",
		begin(t, "", [2]string{"00001_a.sql", "select 1;"}):                                              "files",
		begin(t, "", notes, notes):                                                                       "files",
		begin(t, "", [2]string{"00001_env.sql", "-- +goose ENVSUB ON\n-- +goose Up\nselect 1;"}):         "files",
		begin(t, "", [2]string{"00001_big.sql", "-- +goose Up\nselect 1;" + strings.Repeat(" ", 1<<20)}): "files",
		begin(t, "", [2]string{"00001_lint.sql", "-- +goose Up\ndrop table freehold.predictions;\n"}):    "files",
		begin(t, `,"budget":"much"`, notes):                                                              "budget",
		begin(t, `,"waves":[10,1]`, notes):                                                               "waves",
		begin(t, `,"target":9`, notes):                                                                   "target",
		begin(t, `,"parallel":-1`, notes):                                                                "parallel",
		begin(t, `,"lock_timeout_seconds":1e300`, notes):                                                 "lock_timeout_seconds",
		begin(t, `,"canary":["nobody"]`, notes):                                                          "canary",
	} {
		c.Do("POST", path, body).Refused(400, "invalid_request", param)
	}
	// What no request may be as large as.
	if a := c.Do("POST", path, begin(t, "", [2]string{"00001_a.sql", strings.Repeat("x", 5<<20)})); a.Status != 413 {
		t.Errorf("five megabytes: %d", a.Status)
	}
	for _, call := range [][2]string{{"GET", ""}, {"GET", "/targets"}, {"POST", "/resume"}, {"POST", "/abort"}} {
		for _, id := range []string{"nope", acme.ID.String()} {
			c.Do(call[0], path+"/"+id+call[1], "").Refused(404, "not_found", "")
		}
	}
	c.Do("GET", path+"?state=bogus", "").Refused(400, "invalid_request", "state")
	c.Do("GET", path+"?stream=bogus", "").Refused(400, "invalid_request", "stream")
	c.Do("GET", path+"?after=x", "").Refused(400, "invalid_request", "after")
	c.Do("GET", path+"/"+acme.ID.String()+"/targets?state=bogus", "").Refused(400, "invalid_request", "state")
	c.Do("POST", path+"/"+acme.ID.String()+"/abort?reason="+strings.Repeat("x", 501), "").Refused(400, "invalid_request", "reason")

	// Only those who may change the platform begin, or end, one.
	_, viewer, err := b.Catalog.CreateOperator(t.Context(), "eve", catalog.RoleViewer, nil)
	b.OK(err)
	c.With(viewer).Do("GET", path, "").Into(200, new(map[string]any))
	for _, call := range []string{path, path + "/" + acme.ID.String() + "/resume", path + "/" + acme.ID.String() + "/abort"} {
		c.With(viewer).Do("POST", call, begin(t, "", notes)).Refused(403, "insufficient_scope", "")
		c.With("").Do("POST", call, begin(t, "", notes)).Refused(401, "invalid_api_key", "")
	}
	list, err := b.Catalog.Rollouts(t.Context(), catalog.RolloutFilter{})
	b.OK(err)
	if len(list) > 0 {
		t.Errorf("one was begun: %+v", list)
	}
}

// A rollout's failures are documented as they are answered: with commands, and once.
func TestRolloutDocument(t *testing.T) {
	t.Parallel()
	b := setup(t)
	doc, err := openapi3.NewLoader().LoadFromData([]byte(b.client.With("").Do("GET", "/openapi.json", "").Body))
	b.OK(err)
	answer := doc.Paths.Value("/admin/v1/rollouts/{id}").Get.Responses.Status(200).Value.Content.Get("application/json").Schema.Value
	times := 0
	for _, name := range answer.Required {
		if name == "failures" {
			times++
		}
	}
	if failures := answer.Properties["failures"]; times != 1 || failures == nil || failures.Value.Items.Value.Properties["commands"] == nil {
		t.Errorf("%d times required, %+v", times, failures)
	}
}
