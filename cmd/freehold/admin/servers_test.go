package admin_test

import (
	"strings"
	"testing"

	"freehold/cmd/freehold/rest/resttest"
)

func TestServers_set(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	const path = "/admin/v1/servers/" + resttest.Server
	type server struct {
		Name         string            `json:"name"`
		State        string            `json:"state"`
		Labels       map[string]string `json:"labels"`
		Plans        []string          `json:"plans"`
		Ready        int               `json:"ready"`
		MaxDatabases int               `json:"max_databases"`
		MaxRecovery  int               `json:"max_recovery_seconds"`
		Limit        int               `json:"limit"`
		Room         int               `json:"room"`
		MeasuredAt   string            `json:"measured_at"`
	}
	var s server
	c.Do("GET", path, "").Into(200, &s)
	if s.Name != resttest.Server || s.State != "active" || s.MaxRecovery != 120 || s.Room == 0 || s.MeasuredAt == "" {
		t.Errorf("shown: %+v", s)
	}
	c.Do("PATCH", path, `{"labels":{"rack":"a"},"plans":["gold"],"ready":2,"max_databases":9,"max_recovery_seconds":60}`).Into(200, &s)
	if s.Labels["rack"] != "a" || len(s.Plans) != 1 || s.Ready != 2 || s.MaxDatabases != 9 || s.MaxRecovery != 60 || s.Limit != 9 {
		t.Errorf("set: %+v", s)
	}
	c.Do("PATCH", path, `{"state":"draining","plans":[]}`).Into(200, &s)
	if s.State != "draining" || len(s.Plans) != 0 || s.Room != 0 || s.Labels["rack"] != "a" {
		t.Errorf("draining: %+v", s)
	}
	a := c.Do("POST", "/admin/v1/tenants", `{"slug":"late"}`)
	a.Refused(409, "conflict", "")
	if !strings.Contains(a.Body, resttest.Server+": draining") {
		t.Errorf("doesn't say why: %s", a.Body)
	}
	c.Do("PATCH", path, `{"state":"gone"}`).Refused(400, "invalid_request", "state")
	c.Do("PATCH", path, `{"budget":100000}`).Refused(400, "invalid_request", "budget")
	c.Do("PATCH", path, `{"host":"elsewhere"}`).Refused(400, "invalid_request", "host")
	c.Do("PATCH", "/admin/v1/servers/nope", `{"ready":1}`).Refused(404, "not_found", "")
	c.Do("GET", "/admin/v1/servers/nope", "").Refused(404, "not_found", "")
}

func TestServers_drain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	const path = "/admin/v1/servers/" + resttest.Server
	type drain struct {
		State       string `json:"state"`
		Way         string `json:"way"`
		Actor       string `json:"actor"`
		Parallel    int    `json:"parallel"`
		MaxFailures int    `json:"max_failures"`
		Left        *int   `json:"left"`
		Failed      []any  `json:"failed"`
	}
	var d drain
	c.Do("GET", path+"/drain", "").Refused(404, "not_found", "")
	c.Do("DELETE", path+"/drain", "").Refused(409, "conflict", "")
	c.Do("POST", path+"/drain", `{"parallel":65}`).Refused(400, "invalid_request", "parallel")
	c.Do("POST", path+"/drain", `{"way":"cart"}`).Refused(400, "invalid_request", "way")
	c.Do("POST", path+"/drain", `{"to":"nope"}`).Refused(404, "not_found", "")
	c.Do("POST", "/admin/v1/servers/nope/drain", `{}`).Refused(404, "not_found", "")
	c.Do("POST", path+"/drain", `{"max_failures":0}`).Into(202, &d)
	if d.State != "running" || d.Way != "auto" || d.Parallel != 4 || d.MaxFailures != 0 || d.Left == nil || d.Failed == nil || d.Actor == "" {
		t.Errorf("begun: %+v", d)
	}
	c.Do("POST", path+"/drain", `{"way":"copy"}`).Into(202, &d) // an open one goes on
	c.Do("GET", path+"/drain", "").Into(200, &d)
	if d.Way != "copy" || d.MaxFailures != 3 {
		t.Errorf("shown: %+v", d)
	}
	c.Do("PATCH", path, `{"state":"active"}`).Refused(409, "conflict", "")
	c.Do("DELETE", path+"/drain", "").Into(200, &d)
	var s struct {
		State string `json:"state"`
	}
	if c.Do("GET", path, "").Into(200, &s); d.State != "cancelled" || s.State != "active" {
		t.Errorf("cancelled: %+v, the server is %s", d, s.State)
	}
	for action, n := range map[string]int{"server.drain": 2, "server.drain.cancel": 1} {
		var list struct{ Data []any }
		if c.Do("GET", "/admin/v1/audit?action="+action, "").Into(200, &list); len(list.Data) != n {
			t.Errorf("%d audit rows of %s, want %d", len(list.Data), action, n)
		}
	}
}
