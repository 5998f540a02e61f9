package catalog_test

import (
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

// What fails again and again, and what nobody takes, is found.
func TestWork_trouble(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme, globex := b.tenant("acme"), b.tenant("globex")
	b.limits(acme, 1, 10)
	admin := b.admin()
	view := func() catalog.WorkView {
		t.Helper()
		v, err := b.cat.Work(ctx)
		b.ok(err)
		return v
	}
	for range 3 {
		b.enqueue(acme)
	}
	b.enqueue(globex)
	if v := view(); v.Waiting != 4 || len(v.Failing)+len(v.Idle) != 0 {
		t.Errorf("a moment ago: %+v", v)
	}
	b.exec(admin, `update work_queue set run_at = now() - interval '5 minutes', created_at = now() - interval '1 hour'`)
	if v := view(); len(v.Idle) != 1 || v.Idle[0].Trainer != "builtin" || v.Idle[0].Count != 4 || v.Idle[0].OfTenants != 2 ||
		strings.Join(v.Idle[0].Tenants, " ") != "acme globex" || v.Idle[0].Waited.Round(time.Minute) != 5*time.Minute || v.Oldest.Round(time.Minute) != time.Hour {
		t.Errorf("nobody takes it: %+v", v)
	}
	// One of acme's runs with another trainer: its others wait for it, and globex's for
	// a place, for a while.
	item := b.work("w")
	b.exec(admin, `update work_queue set trainer = 'command:trl' where id = $1`, item.ID)
	if v := view(); v.Running != 1 || v.Waiting != 3 || len(v.Idle) != 0 {
		t.Errorf("a worker is busy: %+v", v)
	}
	b.exec(admin, `update work_queue set run_at = now() - interval '31 minutes'`)
	if v := view(); len(v.Idle) != 1 || v.Idle[0].Count != 1 || strings.Join(v.Idle[0].Tenants, " ") != "globex" {
		t.Errorf("no worker has the trainer: %+v", v)
	}
	b.exec(admin, `update work_queue set attempts = 3 where id = $1`, item.ID)
	if v := view(); len(v.Failing) != 0 {
		t.Errorf("without an error: %+v", v)
	}
	b.ok(b.cat.ReleaseWork(ctx, item, item.Stage, time.Hour, "exit status 1"))
	o, err := b.cat.Overview(ctx, 1)
	b.ok(err)
	if v := o.Work; len(v.Failing) != 1 || v.Failing[0].Trainer != "command:trl" || v.Failing[0].Count != 1 || v.Failing[0].Error != "exit status 1" {
		t.Errorf("failing: %+v", v)
	}
}
