package cli_test

import (
	"testing"

	"freehold/cmd/freehold/need"
)

// A rollout that waits for a person, or for anybody, is named with its command; so is
// what is left below, and what isn't as the migrations make it.
func TestStatusOfRollouts(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 9, 0)
	const id = "0a1b2c3d-0000-4000-8000-000000000000"
	w.exec(`insert into rollouts (id, stream, target, actor, options, state, reason, lease_until)
		values ($1, 'product', 3, 'x', '{}', 'running', '', now() + interval '10 seconds')`, id)
	w.exec(`insert into rollout_waves (rollout, n, name) values ($1, 0, '100%')`, id)
	w.exec(`insert into rollout_targets (rollout, tenant, server_id, wave, state, from_version, version)
		select $1, t.id, t.server_id, 0, case when t.slug <= 'far-4' then 'failed' when t.slug = 'far-9' then 'gone' else 'done' end, 0, 0 from tenants t`, id)
	w.status(0) // somebody is at it

	w.exec(`update rollouts set lease_until = now() - interval '3 minutes'`)
	text, _ := w.status(1)
	contain(t, text, "! nobody has worked on rollout 0a1b2c3d (product, to version 3) for 3 min → freehold migrate resume 0a1b2c3d\n")
	w.exec(`update rollouts set state = 'halted', reason = 'more than 1% failed'`)
	text, s := w.status(1)
	if kinds(s) != need.RolloutHalted || s.Needs[0].Count != 4 {
		t.Errorf("halted: %+v", s.Needs)
	}
	contain(t, text, "! rollout 0a1b2c3d (product, to version 3) is halted: more than 1% failed → freehold migrate status 0a1b2c3d\n")
	w.exec(`update rollouts set state = 'partial'`)
	text, _ = w.status(1)
	contain(t, text, "! rollout 0a1b2c3d (product, to version 3) ended in part: 4 of 8 tenants failed: far-1, far-2, far-3 and 1 more → freehold migrate status 0a1b2c3d\n")
	w.run("", 0, "migrate", "status", "0a1b2c3d") // each command can be pasted
	w.exec(`update rollouts set state = 'aborted'`)
	w.status(0)

	// What was rolled out to its end is what tenants should have; suspended ones get it
	// when they are resumed, and what a rollout is at is on its way.
	w.exec(`update rollouts set state = 'done'`)
	w.exec(`update tenants set product_version = 3 where slug > 'far-2'`)
	w.exec(`update tenants set state = 'suspended', schema_version = 1 where slug = 'far-1'`)
	text, s = w.status(1)
	if kinds(s) != need.TenantBelowTarget || s.ProductTarget != 3 {
		t.Errorf("below: %+v", s.Needs)
	}
	contain(t, text, "! 1 tenant below the product's version 3, the oldest at 0: far-2 → freehold migrate up --stream product\n")
	w.exec(`insert into rollouts (id, stream, target, actor, options, lease_until) values (gen_random_uuid(), 'product', 4, 'x', '{}', now() + interval '1 minute')`)
	w.status(0)

	w.exec(`insert into tenant_schemas (tenant, fingerprint, schema_version, product_version, drifted, invalid_indexes)
		select id, '', 4, 3, slug in ('far-1', 'far-3', 'far-4'), case slug when 'far-5' then array['app.i'] else '{}' end from tenants`)
	text, s = w.status(1)
	if kinds(s) != need.SchemaDrift+" "+need.IndexInvalid {
		t.Errorf("drift: %+v", s.Needs)
	}
	contain(t, text, "! the schemas of far-3, far-4 are not what the migrations make → freehold migrate drift\n",
		"! indexes of far-5 are invalid: no query uses them → freehold migrate drift --rebuild\n")
}
