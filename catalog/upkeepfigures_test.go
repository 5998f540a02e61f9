package catalog_test

import (
	"slices"
	"testing"
	"time"
)

// Moves are counted by how they ended, their pauses by how long they were, and every
// tenant outside its target is told of.
func TestUpkeepFigures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	admin := b.admin()
	b.exec(admin, `insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch, plan, created_at)
		select gen_random_uuid(), 't-' || i, 'T', case i when 5 then 'deleting' else 'active' end, s.id, 'd_' || i, 'd_' || i, '', 0, 0,
		       case i when 4 then 'never' else 'standard' end, now() - i * interval '13 hours'
		  from generate_series(1, 5) i, servers s`)
	b.exec(admin, `insert into backup_plans (plan, every, keep, prove_every) values ('never', '0', '1 day', '0')`)
	b.exec(admin, `insert into operations (id, kind, tenant, actor, state, args)
		select gen_random_uuid(), x.kind, t.id, 'x', x.state, x.args::jsonb from tenants t
		  join (values ('move', 'done', '{"notes": {"pause_ms": 40}}'), ('move', 'done', '{"notes": {"pause_ms": 500}}'),
		               ('move', 'done', '{"notes": {"pause_ms": 500}}'), ('move', 'done', '{"notes": {"pause_ms": 90000}}'),
		               ('move', 'done', '{}'), ('move', 'done', '{"notes": {"pause_ms": "x"}}'),
		               ('move', 'cancelled', '{"notes": {"pause_ms": 7}}'), ('move', 'failed', '{}'), ('move', 'waiting', '{}'),
		               ('backup', 'done', '{"notes": {"pause_ms": 7}}')) as x (kind, state, args) on t.slug = 't-1'`)
	b.exec(admin, `insert into kept_databases (id, tenant, server_id, database, why, operation, drop_at)
		select gen_random_uuid(), t.id, t.server_id, 'k', 'moved', gen_random_uuid(), now() from tenants t where t.slug = 't-1'`)
	f, err := b.cat.UpkeepFigures(t.Context(), []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, time.Second})
	b.ok(err)
	if f.Moves["done"] != 6 || f.Moves["cancelled"] != 1 || f.Moves["failed"] != 1 || len(f.Moves) != 3 || f.Kept != 1 {
		t.Errorf("%+v", f)
	}
	if f.Pauses != 4 || !slices.Equal(f.PauseCounts, []int64{1, 3, 3}) || f.PauseSum != 91_040*time.Millisecond {
		t.Errorf("pauses: %+v", f)
	}
	var late []string
	for _, l := range f.Late {
		late = append(late, l.Tenant)
		if !l.Never || l.Target != 24*time.Hour || l.Of != 2 || l.Age < 25*time.Hour {
			t.Errorf("%+v", l)
		}
	}
	if !slices.Equal(late, []string{"t-3", "t-2"}) {
		t.Errorf("late: %v", late)
	}
	f, err = b.cat.UpkeepFigures(t.Context(), nil)
	b.ok(err)
	if len(f.PauseCounts) != 0 || f.Pauses != 4 {
		t.Errorf("without bounds: %+v", f)
	}
}
