package admin_test

import (
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

func TestBackupPlans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	type plan struct {
		Plan, Every, Keep string
		ProveEvery        string `json:"prove_every"`
	}
	var all list[plan]
	c.Do("GET", "/admin/v1/backup_plans", "").Into(200, &all)
	if len(all.Data) != 1 || all.Data[0] != (plan{"*", "1d", "30d", "30d"}) {
		t.Errorf("%+v", all.Data)
	}
	var gold plan
	c.Do("PUT", "/admin/v1/backup_plans", `{"plan":"gold","every":"6h","prove_every":"never"}`).Into(200, &gold)
	if gold != (plan{"gold", "6h", "30d", "never"}) {
		t.Errorf("%+v", gold)
	}
	for body, param := range map[string]string{
		`{"plan":"gold","every":"soon"}`: "every", `{"plan":"gold","every":"1m"}`: "every", `{"plan":"gold","keep":"never"}`: "keep",
		`{"plan":"No Plan","every":"1d"}`: "plan", `{"every":"1d"}`: "plan", `{"plan":"gold","colour":"red"}`: "colour",
	} {
		c.Do("PUT", "/admin/v1/backup_plans", body).Refused(400, "invalid_request", param)
	}
	c.Do("DELETE", "/admin/v1/backup_plans/*", "").Refused(400, "invalid_request", "plan")
	c.Do("DELETE", "/admin/v1/backup_plans/gold", "").Into(200, new(map[string]any))
	c.Do("GET", "/admin/v1/backup_plans", "").Into(200, &all)
	if len(all.Data) != 1 {
		t.Errorf("after the removal: %+v", all.Data)
	}
	b.audited("backup_plan.set", "backup_plan.remove")
}

// Backups, moves and restores are begun for workers, and refused before anything is.
func TestUpkeepOfTenants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	acme, _ := b.Tenant("acme")

	c.Do("POST", "/admin/v1/tenants/acme/backup", "").Refused(503, "store_unavailable", "") // this node has none
	c.Do("POST", "/admin/v1/tenants/acme/backup?prove=perhaps", "").Refused(400, "invalid_request", "prove")
	var none list[catalog.TenantBackup]
	c.Do("GET", "/admin/v1/tenants/acme/backups", "").Into(200, &none)
	if none.Data == nil || len(none.Data) > 0 {
		t.Errorf("%+v", none)
	}
	var late list[struct {
		Slug   string
		Backup *struct {
			Target  int64 `json:"target_seconds"`
			Overdue bool
		}
	}]
	c.Do("GET", "/admin/v1/tenants?backup_older_than=24h", "").Into(200, &late)
	if len(late.Data) > 0 {
		t.Errorf("a new tenant's backup is late: %+v", late.Data)
	}
	conn := b.rows()
	defer conn.Close(t.Context())
	_, err := conn.Exec(t.Context(), `update tenants set created_at = now() - interval '3 days'`)
	b.OK(err)
	c.Do("GET", "/admin/v1/tenants?backup_older_than=24h", "").Into(200, &late)
	if len(late.Data) != 1 || late.Data[0].Backup == nil || late.Data[0].Backup.Target != 86400 || !late.Data[0].Backup.Overdue {
		t.Errorf("%+v", late.Data)
	}
	c.Do("GET", "/admin/v1/tenants?backup_older_than=x", "").Refused(400, "invalid_request", "backup_older_than")

	for body, want := range map[string]struct {
		status      int
		code, param string
	}{
		`{"to":"nowhere"}`: {404, "not_found", "to"}, `{"to":"pg-1"}`: {400, "invalid_request", "to"}, `{"way":"magic"}`: {400, "invalid_request", "way"},
		`{"grace":"x"}`: {400, "invalid_request", "grace"}, `{"max_pause":"10ms"}`: {400, "invalid_request", "max_pause"}, `{}`: {409, "conflict", ""},
	} {
		c.Do("POST", "/admin/v1/tenants/acme/move", body).Refused(want.status, want.code, want.param)
	}
	c.Do("GET", "/admin/v1/tenants/acme/move?to=nowhere", "").Refused(404, "not_found", "to")

	c.Do("POST", "/admin/v1/tenants/acme/restore", `{"backup":"latest"}`).Refused(404, "not_found", "backup")
	c.Do("POST", "/admin/v1/tenants/acme/restore", `{"backup":"newest"}`).Refused(400, "invalid_request", "backup")
	c.Do("POST", "/admin/v1/tenants/acme/restore", `{}`).Refused(400, "invalid_request", "backup")
	c.Do("POST", "/admin/v1/tenants/acme/restore_as", `{"backup":"latest","slug":"acme-2"}`).Refused(404, "not_found", "backup")
	c.Do("POST", "/admin/v1/tenants/acme/confirm", "").Refused(409, "conflict", "")
	c.Do("POST", "/admin/v1/tenants/acme/revert", "").Refused(409, "conflict", "")
	for _, path := range []string{"backup", "move", "restore", "restore_as", "confirm", "revert"} {
		c.Do("POST", "/admin/v1/tenants/nobody/"+path, bodyOf(path)).Refused(404, "not_found", "")
	}

	// Another server, that nobody can reach by now: a worker would find out.
	_, err = conn.Exec(t.Context(), `insert into servers (id, name, host, port, ssl_mode, admin_user, admin_secret, secret_key_id, version, max_connections, budget, reserve)
		select gen_random_uuid(), 'pg-2', '127.0.0.1', 1, ssl_mode, admin_user, admin_secret, secret_key_id, version, max_connections, budget, reserve from servers`)
	b.OK(err)
	var plan fleet.MovePlan
	c.Do("GET", "/admin/v1/tenants/acme/move?way=copy", "").Into(200, &plan)
	if plan.From != "pg-1" || plan.To != "pg-2" || plan.Way != "copy" || plan.Bytes == 0 || plan.Pause <= 0 {
		t.Errorf("%+v", plan)
	}
	var op operationView
	c.Do("POST", "/admin/v1/tenants/acme/move", `{"to":"pg-2","way":"copy","grace":"2d"}`).Into(202, &op)
	if op.Kind != "move" || op.State != "waiting" || op.Actor != "admin-token" || len(op.Steps) == 0 {
		t.Errorf("%+v", op)
	}
	again := c.Do("POST", "/admin/v1/tenants/acme/move", `{"to":"pg-2","way":"copy"}`)
	again.Refused(409, "conflict", "")
	if !strings.Contains(again.Body, op.ID) {
		t.Errorf("doesn't name the operation: %s", again.Body)
	}
	details := b.audited("tenant.move")
	if !strings.Contains(details, op.ID) || !strings.Contains(details, "pg-2") {
		t.Errorf("audited %s", details)
	}
	if now, err := b.Catalog.Tenant(t.Context(), acme.ID); err != nil || now.State != catalog.Active || now.Server != "pg-1" {
		t.Errorf("%+v %v", now, err)
	}
}

// bodyOf is what a route takes.
func bodyOf(path string) string {
	switch path {
	case "move":
		return `{}`
	case "restore":
		return `{"backup":"latest"}`
	case "restore_as":
		return `{"backup":"latest","slug":"x1"}`
	default:
		return ""
	}
}
