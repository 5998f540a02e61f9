package catalog_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
)

func TestHealthBucket(t *testing.T) {
	t.Parallel()
	last := catalog.HealthBuckets - 1
	for i := range catalog.HealthBuckets {
		bound := catalog.HealthBound(i)
		if got := catalog.HealthBucket(bound); got != i {
			t.Errorf("bound of %d, %s, is counted in %d", i, bound, got)
		}
		if i < last && catalog.HealthBucket(bound+1) != i+1 {
			t.Errorf("what is over the bound of %d isn't in the next", i)
		}
	}
	if first, top := catalog.HealthBound(0), catalog.HealthBound(last-1); first != time.Millisecond || top < time.Minute {
		t.Errorf("bounds from %s to %s", first, top)
	}
	if catalog.HealthBucket(0) != 0 || catalog.HealthBucket(24*time.Hour) != last {
		t.Error("not every duration is counted")
	}
}

// wave is a rollout of a wave, in which are these tenants, that begins now.
func (b *bench) wave(stream catalog.Stream, n int, tenants ...catalog.Tenant) (rollout string) {
	b.Helper()
	rollout = uuid.NewString()
	admin := b.admin()
	b.exec(admin, `insert into rollouts (id, stream, target, actor, options, wave) values ($1, $2, 1, 'test', '{}', $3)`, rollout, stream, n)
	b.exec(admin, `insert into rollout_waves (rollout, n, name, begun_at) values ($1, $2, 'w', now())`, rollout, n)
	for _, one := range tenants {
		b.exec(admin, `
			insert into rollout_targets (rollout, tenant, server_id, wave, from_version, version)
			select $1, id, server_id, $3, 0, 0 from tenants where id = $2`, rollout, one.ID, n)
	}
	return rollout
}

func (b *bench) watched() []catalog.WatchedWave {
	b.Helper()
	list, err := b.cat.WatchedWaves(b.Context())
	b.ok(err)
	return list
}

func TestWatchedWaves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two, admin := b.tenant("one"), b.tenant("two"), b.admin()
	if list := b.watched(); len(list) != 0 {
		t.Fatalf("without a rollout: %+v", list)
	}
	own := b.wave(catalog.StreamFreehold, 2, one, two)
	theirs := b.wave(catalog.StreamProduct, 0, one)
	list := b.watched()
	slices.SortFunc(list, func(a, b catalog.WatchedWave) int { return b.Wave - a.Wave })
	if len(list) != 2 || list[0].Rollout != own || list[0].Wave != 2 || list[0].Tenants != 2 ||
		list[1].Rollout != theirs || list[1].Tenants != 1 || time.Since(list[0].Now).Abs() > time.Minute {
		t.Fatalf("two streams: %+v", list)
	}
	tenants := func() []catalog.TenantID {
		list, err := b.cat.WatchedTenants(t.Context(), own, 2)
		b.ok(err)
		return list
	}
	if got := tenants(); len(got) != 2 || !slices.Contains(got, one.ID) || !slices.Contains(got, two.ID) {
		t.Errorf("tenants: %v", got)
	}
	b.exec(admin, `update rollout_targets set state = 'gone' where rollout = $1 and tenant = $2`, own, two.ID)
	if got := tenants(); len(got) != 1 || got[0] != one.ID {
		t.Errorf("with one gone: %v", got)
	}
	if none, err := b.cat.WatchedTenants(t.Context(), own, 1); err != nil || len(none) != 0 {
		t.Errorf("another wave's: %v, %v", none, err)
	}
	for _, over := range []string{
		`update rollouts set state = 'halted' where id = $1`,
		`update rollout_waves set passed_at = now() where rollout = $1`,
		`update rollout_waves set begun_at = null where rollout = $1`,
		`update rollouts set wave = 3 where id = $1`,
	} {
		tx, err := admin.Begin(t.Context())
		b.ok(err)
		_, err = tx.Exec(t.Context(), over, own)
		b.ok(err)
		b.ok(tx.Commit(t.Context()))
		if list := b.watched(); len(list) != 1 || list[0].Rollout != theirs {
			t.Errorf("after %q: %+v", over, list)
		}
		b.exec(admin, `update rollouts set state = 'running', wave = 2 where id = $1`, own)
		b.exec(admin, `update rollout_waves set begun_at = now(), passed_at = null where rollout = $1`, own)
	}
}

// slot is a slot with as many requests of each bucket as its number.
func slot(at time.Time, requests, failures int64) catalog.HealthSlot {
	s := catalog.HealthSlot{Slot: at, Seconds: 10, Requests: requests, Failures: failures, Buckets: make([]int64, catalog.HealthBuckets)}
	for i := range s.Buckets {
		s.Buckets[i] = requests * int64(i)
	}
	return s
}

// What a node tells again replaces what it told; what lies between the wave's
// beginning and its end is left out.
func TestReportHealth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.wave(catalog.StreamFreehold, 0, b.tenant("one"))
	begun := time.Now().Truncate(time.Second)
	migrated := begun.Add(time.Minute)
	b.exec(b.admin(), `update rollout_waves set begun_at = $2, migrated_at = $3 where rollout = $1`, id, begun, migrated)
	here, there := uuid.New(), uuid.New()
	told := []catalog.HealthSlot{
		slot(begun.Add(-20*time.Second), 1, 0),
		slot(begun.Add(-10*time.Second), 2, 1), // ends as it begins
		slot(begun.Add(-5*time.Second), 3, 0),
		slot(migrated.Add(-time.Second), 4, 0),
		slot(migrated, 5, 2),
	}
	b.ok(b.cat.ReportHealth(t.Context(), here, id, 0, told))
	told[4].Requests, told[4].Failures = 50, 20
	b.ok(b.cat.ReportHealth(t.Context(), here, id, 0, told))
	b.ok(b.cat.ReportHealth(t.Context(), there, id, 0, []catalog.HealthSlot{slot(migrated, 7, 0)}))
	b.ok(b.cat.ReportHealth(t.Context(), here, id, 0, nil))

	got, err := b.cat.WaveHealth(t.Context(), id, 0)
	b.ok(err)
	want := []catalog.HealthSlot{told[0], told[1], told[4], slot(migrated, 7, 0)}
	if got[2].Requests == 7 { // two nodes' of one time
		got[2], got[3] = got[3], got[2]
	}
	if !slices.EqualFunc(got, want, func(a, b catalog.HealthSlot) bool {
		return a.Slot.Equal(b.Slot) && a.Seconds == b.Seconds && a.Requests == b.Requests && a.Failures == b.Failures &&
			slices.Equal(a.Buckets, b.Buckets)
	}) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if other, err := b.cat.WaveHealth(t.Context(), id, 1); err != nil || len(other) != 0 {
		t.Errorf("another wave's: %+v, %v", other, err)
	}
	b.is(b.cat.ReportHealth(t.Context(), here, uuid.NewString(), 0, told), catalog.ErrConflict)
	b.is(b.cat.ReportHealth(t.Context(), here, id, 0, []catalog.HealthSlot{{Slot: begun, Seconds: 10}}), catalog.ErrInvalid)
}
