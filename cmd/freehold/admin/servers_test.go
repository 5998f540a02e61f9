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
