package catalog_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

// many registers so many active tenants on a server, quickly, and returns them by slug.
func (b *bench) many(server string, n int) []catalog.Tenant {
	b.Helper()
	b.server(server)
	b.exec(b.admin(), `
insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch, schema_version, product_version)
select x.id, s.name || '-' || to_char(x.i, 'FM00000'), 'T', 'active', s.id, 't_' || x.id, 't_' || x.id, '', 0, 0, 4, 1
  from servers s, (select i, gen_random_uuid() as id from generate_series(1, $2::bigint) i) x where s.name = $1`, server, n)
	list, err := b.cat.Tenants(b.Context(), catalog.TenantFilter{Server: server})
	b.ok(err)
	if len(list) != n {
		b.Fatalf("%d tenants, want %d", len(list), n)
	}
	return list
}

func file(version int64, name, body string) catalog.MigrationFile {
	sum := sha256.Sum256([]byte(body))
	return catalog.MigrationFile{Version: version, Name: name, Sum: sum[:], Body: body}
}

// spec is a rollout of Freehold's stream from 4 to 5 with a wave for each list.
func (b *bench) spec(waves ...[]catalog.Tenant) catalog.RolloutSpec {
	b.Helper()
	servers, err := b.cat.Servers(b.Context())
	b.ok(err)
	ids := map[string]string{}
	for _, s := range servers {
		ids[s.Name] = s.ID
	}
	spec := catalog.RolloutSpec{
		Stream: catalog.StreamFreehold, Target: 5, Actor: "ops",
		Options: catalog.RolloutOptions{Parallel: 4, Budget: "1", LockTimeout: time.Second, Retries: 2},
		Files:   []catalog.MigrationFile{file(5, "00005_more.sql", "select 5")},
	}
	for _, tenants := range waves {
		wave := catalog.WaveSpec{Name: unique("wave")}
		for _, t := range tenants {
			wave.Targets = append(wave.Targets, catalog.TargetSpec{Tenant: t.ID, Server: ids[t.Server], From: t.SchemaVersion})
		}
		spec.Waves = append(spec.Waves, wave)
	}
	return spec
}

func (b *bench) begin(spec catalog.RolloutSpec) catalog.Rollout {
	b.Helper()
	r, err := b.cat.BeginRollout(b.Context(), spec, worker("lead"))
	b.ok(err)
	return r
}

func worker(name string) catalog.Taker { return catalog.Taker{Worker: name, Lease: time.Minute} }

// turn takes a turn that has to go well.
func (b *bench) turn(t catalog.Turn) catalog.TurnTaken {
	b.Helper()
	taken, err := b.cat.RolloutTurn(b.Context(), t)
	b.ok(err)
	return taken
}

// claim has a worker claim so many.
func (b *bench) claim(r catalog.Rollout, by string, want, claimed int) []catalog.TargetClaim {
	b.Helper()
	got := b.turn(catalog.Turn{Rollout: r.ID, Taker: worker(by), Want: want}).Claims
	if len(got) != claimed {
		b.Fatalf("%s wanted %d and claimed %d, want %d", by, want, len(got), claimed)
	}
	return got
}

func ended(state string, claims ...catalog.TargetClaim) (list []catalog.TargetResult) {
	for _, c := range claims {
		e := catalog.TargetResult{TargetClaim: c, State: state, Version: 5, Needs: 5, Took: 20 * time.Millisecond}
		if state != catalog.TargetDone {
			e.Version, e.Needs, e.Kind, e.File, e.Error = 4, -1, catalog.FailSQL, "00005_more.sql", "relation exists"
		}
		list = append(list, e)
	}
	return list
}

// record tells how claims ended.
func (b *bench) record(r catalog.Rollout, state string, claims ...catalog.TargetClaim) catalog.TurnTaken {
	b.Helper()
	taken := b.turn(catalog.Turn{Rollout: r.ID, Taker: worker("any"), Ended: ended(state, claims...)})
	if len(taken.Lost) > 0 {
		b.Fatalf("%d of %d weren't recorded", len(taken.Lost), len(claims))
	}
	return taken
}

func (b *bench) rollout(id string) catalog.Rollout {
	b.Helper()
	r, err := b.cat.Rollout(b.Context(), id)
	b.ok(err)
	return r
}

func TestBeginRollout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := b.many("pg-1", 3)
	spec := b.spec(list[:1], list[1:])
	spec.Deadline = time.Now().Add(time.Hour)
	r := b.begin(spec)
	if r.State != catalog.RolloutRunning || r.Token != 1 || r.Worker != "lead" || r.LeaseUntil == nil || r.Wave != 0 ||
		r.Options != spec.Options || r.Stream != catalog.StreamFreehold || r.Target != 5 || r.Deadline == nil {
		t.Errorf("began %+v", r)
	}
	if files, err := b.cat.MigrationFiles(t.Context(), catalog.StreamFreehold); err != nil || len(files) != 1 || files[0].Name != "00005_more.sql" {
		t.Errorf("kept %v, %v", files, err)
	}
	_, err := b.cat.BeginRollout(t.Context(), spec, worker("other"))
	var open *catalog.OpenRollout
	if !errors.As(err, &open) || open.ID != r.ID || !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a second one: %v", err)
	}
	// Of the other stream there may be one beside it; nobody leads it yet.
	spec.Stream, spec.Target, spec.Options.Budget, spec.Deadline = catalog.StreamProduct, 2, "2.5%", time.Time{}
	product, err := b.cat.BeginRollout(t.Context(), spec, catalog.Taker{})
	if err != nil || product.Worker != "" || product.LeaseUntil != nil {
		t.Errorf("the product's: %+v, %v", product, err)
	}
	if led, ok, err := b.cat.LeadRollout(t.Context(), product.ID, worker("w"), false); err != nil || !ok || led.Token != 2 || led.Worker != "w" {
		t.Errorf("led %+v, %v, %v", led, ok, err)
	}
	for name, wrong := range map[string]func(*catalog.RolloutSpec){
		"stream": func(s *catalog.RolloutSpec) { s.Stream = "mine" },
		"target": func(s *catalog.RolloutSpec) { s.Target = 0 },
		"waves":  func(s *catalog.RolloutSpec) { s.Waves = nil },
		"budget": func(s *catalog.RolloutSpec) { s.Options.Budget = "101%" },
	} {
		bad := spec
		wrong(&bad)
		_, err := b.cat.BeginRollout(t.Context(), bad, worker("w"))
		var invalid *catalog.Invalid
		if !errors.As(err, &invalid) || invalid.Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := b.number(b.admin(), `select count(*) from operator_audit where action = 'rollout.begin' and actor = 'ops'`); n != 2 {
		t.Errorf("%d rows of audit, want 2", n)
	}
}

func TestRolloutByRef(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	_, err := b.cat.RolloutByRef(ctx, "")
	b.is(err, catalog.ErrNotFound)
	list := b.many("pg-1", 1)
	first := b.begin(b.spec(list))
	_, err = b.cat.AbortRollout(ctx, first.ID, "ops", "no")
	b.ok(err)
	second := b.begin(b.spec(list))
	product := b.spec(list)
	product.Stream, product.Target = catalog.StreamProduct, 2
	third := b.begin(product)
	for _, table := range []string{"rollout_targets", "rollout_waves"} {
		b.exec(b.admin(), "delete from "+table)
	}
	b.exec(b.admin(), `update rollouts set id = 'abcd0000-0000-4000-8000-000000000001', created_at = now() - interval '1 day' where id = $1`, first.ID)
	b.exec(b.admin(), `update rollouts set id = 'abcd0000-0000-4000-8000-000000000002' where id = $1`, third.ID)
	for ref, want := range map[string]string{
		second.ID:                          second.ID,
		strings.ToUpper(second.ID[:13]):    second.ID,
		"abcd0000000040008000000000000001": "abcd0000-0000-4000-8000-000000000001",
		"":                                 "abcd0000-0000-4000-8000-000000000002", // two are open
	} {
		if got, err := b.cat.RolloutByRef(ctx, ref); err != nil || got.ID != want {
			t.Errorf("%q is %s, want %s: %v", ref, got.ID, want, err)
		}
	}
	for ref, want := range map[string]error{
		"abcd": catalog.ErrInvalid, "abc": catalog.ErrInvalid, "nonsense": catalog.ErrInvalid,
		"abcd0000000040008000000000000003": catalog.ErrNotFound,
	} {
		_, err := b.cat.RolloutByRef(ctx, ref)
		b.is(err, want)
	}
	_, err = b.cat.AbortRollout(ctx, "abcd0000-0000-4000-8000-000000000002", "ops", "")
	b.ok(err)
	if got, err := b.cat.RolloutByRef(ctx, ""); err != nil || got.ID != second.ID {
		t.Errorf("the only open one: %s, %v", got.ID, err)
	}
	page, err := b.cat.Rollouts(ctx, catalog.RolloutFilter{Limit: 1})
	b.ok(err)
	rest, err := b.cat.Rollouts(ctx, catalog.RolloutFilter{After: page[0].ID})
	b.ok(err)
	if len(page) != 1 || page[0].Stream != catalog.StreamProduct || len(rest) != 2 || rest[0].ID != second.ID {
		t.Errorf("listed %+v, then %+v", page, rest)
	}
	aborted, err := b.cat.Rollouts(ctx, catalog.RolloutFilter{State: catalog.RolloutAborted, Stream: catalog.StreamFreehold})
	if err != nil || len(aborted) != 1 || aborted[0].Reason != "no" || aborted[0].EndedAt == nil {
		t.Errorf("aborted %+v, %v", aborted, err)
	}
}

func TestMigrationFiles_edited(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	list := b.many("pg-1", 1)
	spec := b.spec(list)
	spec.Stream, spec.Target = catalog.StreamProduct, 3
	again := func(files ...catalog.MigrationFile) error {
		t.Helper()
		spec.Files = files
		r, err := b.cat.BeginRollout(ctx, spec, worker("w"))
		if err == nil {
			_, err = b.cat.AbortRollout(ctx, r.ID, "ops", "")
		}
		return err
	}
	one, two, three := file(1, "1.sql", "a"), file(2, "2.sql", "b"), file(3, "3.sql", "c")
	b.ok(again(one, two, three))
	b.ok(again(one, file(2, "2b.sql", "b2"))) // none has 2 or 3
	kept, err := b.cat.MigrationFiles(ctx, catalog.StreamProduct)
	b.ok(err)
	if len(kept) != 2 || kept[0].Body != "a" || kept[1].Body != "b2" || kept[1].Name != "2b.sql" {
		t.Errorf("kept %v", kept)
	}
	refused := func(version int64, files ...catalog.MigrationFile) {
		t.Helper()
		var edited *catalog.EditedFile
		if err := again(files...); !errors.As(err, &edited) || edited.Version != version || !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("an edited file: %v", err)
		}
	}
	refused(1, file(1, "1.sql", "other"), two)
	b.exec(b.admin(), `update tenants set product_version = 2, state = 'suspended'`)
	refused(2, one, two)
	// A ready database has it as well.
	b.exec(b.admin(), `update tenants set product_version = 0`)
	b.exec(b.admin(), `insert into ready_databases (id, server_id, secret, secret_key_id, product_version)
		select gen_random_uuid(), id, '', 0, 2 from servers`)
	refused(2, one, two)
	// Whoever brings only what is new takes nothing away that somebody has.
	b.ok(again(three))
	if kept, err = b.cat.MigrationFiles(ctx, catalog.StreamProduct); err != nil || len(kept) != 3 {
		t.Errorf("kept %v, %v", kept, err)
	}
}

// What an aborted rollout had begun may be done by now: its files stay as they are until
// that is known.
func TestMigrationFiles_underWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	spec := b.spec(b.many("pg-1", 1))
	r := b.begin(spec)
	claims := b.claim(r, "w", 1, 1)
	_, err := b.cat.AbortRollout(t.Context(), r.ID, "ops", "")
	b.ok(err)
	spec.Files = []catalog.MigrationFile{file(5, "00005_more.sql", "another")}
	var edited *catalog.EditedFile
	if _, err := b.cat.BeginRollout(t.Context(), spec, worker("w")); !errors.As(err, &edited) || edited.Version != 5 {
		t.Errorf("while it is under way: %v", err)
	}
	b.record(r, catalog.TargetFailed, claims...)
	b.begin(spec)
}
