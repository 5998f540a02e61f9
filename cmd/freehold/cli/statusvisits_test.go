package cli_test

import (
	"strings"
	"testing"

	"freehold/cmd/freehold/need"
)

// What workers met at tenants' is named by what is wrong, for as many as it concerns.
func TestStatusOfVisits(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 9, 0)
	w.exec(`insert into tenant_due (tenant, due_at, error, failing_since, spooled, unsealed_at)
		select t.id, now(), n.error, now() - n.failing * interval '1 minute', n.spooled, now() - n.unsealed * interval '1 minute'
		  from tenants t join (values ('far-1', 'spool: 2 left, the first is spool/x: changed', 20, 2, null::int), ('far-2', 'roll up usage: refused', 10, 0, 10),
		       ('far-3', 'come in: away', 30, 0, null), ('far-4', '', null, 0, 130), ('far-5', 'sweep: a blip', 1, 0, null), ('far-6', '', null, 0, 1)) as n (slug, error, failing, spooled, unsealed)
		    on n.slug = t.slug`)
	text, s := w.status(1)
	if got := kinds(s); got != "audit_late spool_left visit_failing" {
		t.Fatalf("%s\n%s", got, text)
	}
	for _, want := range []string{
		"! the audit of far-4 has rows without a seal for 2 h → freehold doctor\n",
		"! settlements of far-1 are left in the object store for 20 min: spool: 2 left, the first is spool/x: changed → freehold doctor\n",
		"! periodic work at far-3, far-2 fails for 30 min: come in: away → freehold doctor\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if n := s.Needs[2]; n.Kind != need.VisitFailing || n.Count != 2 {
		t.Errorf("%+v", n)
	}
	// Of a server that is down there is one thing to know.
	w.exec("update servers set state = 'down' where name = 'far'")
	if _, s = w.status(1); kinds(s) != "server_down" {
		t.Errorf("its server is down: %s", kinds(s))
	}
}
