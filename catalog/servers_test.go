package catalog_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"freehold/catalog"
)

func TestSetServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "pg-1", Budget: 60, Reserve: 10})
	tenant := b.tenant("acme")
	epoch := func() int64 {
		t.Helper()
		now, err := b.cat.Tenant(t.Context(), tenant.ID)
		b.ok(err)
		return now.Epoch
	}
	first := epoch()
	labels, plans := map[string]string{"rack": "a"}, []string{"gold", "basic", "gold"}
	ready, most, recovery, disk := 3, 40, 60, int64(1e12)
	s := b.set("pg-1", catalog.ServerPatch{
		Labels: &labels, Plans: &plans, Ready: &ready, MaxDatabases: &most, MaxRecovery: &recovery, DiskBytes: &disk,
	})
	if !maps.Equal(s.Labels, labels) || !slices.Equal(s.Plans, []string{"basic", "gold"}) || s.Ready != 3 || s.MaxDatabases != 40 ||
		s.MaxRecovery != 60 || s.DiskBytes != disk || s.Limit != 40 || s.Room != 39 || s.State != catalog.ServerActive {
		t.Errorf("set: %+v", s)
	}
	down := catalog.ServerDown
	if s = b.set("pg-1", catalog.ServerPatch{State: &down}); s.State != down || s.Room != 0 || s.Ready != 3 || len(s.Labels) != 1 {
		t.Errorf("down: %+v", s)
	}
	labels, plans, most = nil, nil, 0
	if s = b.set("pg-1", catalog.ServerPatch{Labels: &labels, Plans: &plans, MaxDatabases: &most}); len(s.Labels)+len(s.Plans)+s.MaxDatabases != 0 {
		t.Errorf("cleared: %+v", s)
	}
	if epoch() != first {
		t.Error("routes were renewed for nothing")
	}

	budget, reserve := 80, 20
	if s = b.set("pg-1", catalog.ServerPatch{Budget: &budget, Reserve: &reserve}); s.Budget != 80 || s.Reserve != 20 {
		t.Errorf("budget: %+v", s)
	}
	route, err := b.cat.Route(t.Context(), tenant.ID)
	b.ok(err)
	if route.Budget != 80 || route.Epoch <= first {
		t.Errorf("route has budget %d at epoch %d, was %d", route.Budget, route.Epoch, first)
	}
	reserve = 21
	_, err = b.cat.SetServer(t.Context(), "pg-1", catalog.ServerPatch{Reserve: &reserve})
	if invalid, ok := errors.AsType[*catalog.Invalid](err); !ok || invalid.Field != "budget" {
		t.Errorf("more than there is: %v", err)
	}
	_, err = b.cat.SetServer(t.Context(), "none", catalog.ServerPatch{})
	b.is(err, catalog.ErrNotFound)
	if s, err = b.cat.Server(t.Context(), "pg-1"); err != nil || s.Reserve != 20 {
		t.Errorf("%+v, %v", s, err)
	}
	_, err = b.cat.Server(t.Context(), "none")
	b.is(err, catalog.ErrNotFound)
}

func TestSetServer_namesEveryField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	state, labels, plans, negative, disk := "gone", map[string]string{"a b": "c"}, []string{"Über"}, -1, int64(-1)
	_, err := b.cat.SetServer(t.Context(), "pg-1", catalog.ServerPatch{
		State: &state, Labels: &labels, Plans: &plans, Ready: &negative, MaxDatabases: &negative, MaxRecovery: &negative,
		DiskBytes: &disk, Budget: &negative, Reserve: &negative,
	})
	b.is(err, catalog.ErrInvalid)
	_, added := b.cat.AddServer(t.Context(), catalog.ServerSpec{
		Labels: labels, Plans: plans, Ready: negative, MaxDatabases: negative, MaxRecovery: negative, DiskBytes: disk,
	})
	b.is(added, catalog.ErrInvalid)
	for field := range strings.FieldsSeq("labels plans ready max_databases max_recovery_seconds disk_bytes state budget reserve") {
		if !strings.Contains(err.Error(), field+": ") {
			t.Errorf("set: %s isn't named: %v", field, err)
		}
		if field != "state" && !strings.Contains(added.Error(), field+": ") {
			t.Errorf("add: %s isn't named: %v", field, added)
		}
	}
}

// A server that is added again, with another password or port, takes what it took.
func TestUpdateServer_keepsPlacement(t *testing.T) {
	t.Parallel()
	b := setup(t)
	spec := catalog.ServerSpec{
		Name: "pg-1", Host: "db.invalid", Port: 5432, SSLMode: "disable", AdminUser: "admin", Password: "first",
		Version: 160000, MaxConnections: 100, Budget: 50, Reserve: 10,
		Labels: map[string]string{"rack": "a"}, Plans: []string{"gold"}, Ready: 2, MaxDatabases: 9, MaxRecovery: 30, DiskBytes: 5,
	}
	_, err := b.cat.AddServer(t.Context(), spec)
	b.ok(err)
	again := spec
	again.Password, again.Port, again.Ready, again.MaxDatabases, again.MaxRecovery, again.DiskBytes = "second", 5433, 0, 0, 0, 0
	again.Labels, again.Plans = nil, []string{"basic"}
	s, err := b.cat.UpdateServer(t.Context(), again)
	b.ok(err)
	if s.Port != 5433 || s.Labels["rack"] != "a" || !slices.Equal(s.Plans, []string{"basic"}) || s.Ready != 2 || s.MaxDatabases != 9 ||
		s.MaxRecovery != 30 || s.DiskBytes != 5 {
		t.Errorf("%+v", s)
	}
}

func TestRemoveServer_readyDatabases(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "pg-1", Ready: 1})
	_, _, err := b.cat.AddReady(t.Context(), "pg-1", 1)
	b.ok(err)
	err = b.cat.RemoveServer(t.Context(), "pg-1")
	b.is(err, catalog.ErrConflict)
	if !strings.Contains(err.Error(), "ready databases (1)") {
		t.Errorf("doesn't say why: %v", err)
	}
	down := catalog.ServerDown
	b.set("pg-1", catalog.ServerPatch{State: &down})
	b.ok(b.cat.RemoveServer(t.Context(), "pg-1"))
	b.put(catalog.ServerSpec{Name: "pg-2"})
	tenant := b.tenant("acme")
	b.set(tenant.Server, catalog.ServerPatch{State: &down})
	b.is(b.cat.RemoveServer(t.Context(), tenant.Server), catalog.ErrConflict)
}

func TestFloors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.admin()
	is := func(want int64) {
		t.Helper()
		got, err := b.cat.Floors(t.Context())
		if err != nil || got != (catalog.Versions{Freehold: want, Product: 2 * want}) {
			t.Errorf("floors are %s, want %d and twice that: %v", got, want, err)
		}
	}
	is(0)
	versions := map[string]int64{"aa": 7, "bb": 5, "cc": 4, "dd": 3, "ee": 2}
	for slug := range versions {
		b.tenant(slug)
	}
	for slug, version := range versions {
		b.exec(admin, "update tenants set schema_version = $2::bigint, product_version = 2 * $2::bigint where slug = $1", slug, version)
	}
	b.exec(admin, "update tenants set state = 'deleted' where slug = 'ee'")
	b.exec(admin, "update tenants set state = 'provisioning' where slug = 'dd'")
	b.exec(admin, "update tenants set state = 'moving' where slug = 'cc'")
	is(5)
	b.exec(admin, "update tenants set state = 'suspended' where slug = 'bb'")
	is(7)
	b.exec(admin, "update tenants set state = 'deleting' where slug = 'aa'")
	is(4) // of the one that moves
	for stream, target := range map[string]int{"freehold": 6, "product": 12} {
		b.exec(admin, `insert into rollouts (id, stream, target, actor, options, state)
			values (gen_random_uuid(), $1, $2, 'ops', '{}', 'done'), (gen_random_uuid(), $1, 99, 'ops', '{}', 'halted')`, stream, target)
	}
	is(6)
}
