package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"freehold/catalog"
)

// put registers a server that is never connected to, as the spec wants it.
func (b *bench) put(s catalog.ServerSpec) catalog.Server {
	b.Helper()
	s.Host, s.SSLMode, s.AdminUser, s.Version, s.MaxConnections = "db.invalid", "disable", "admin", 160000, 100
	added, err := b.cat.AddServer(b.Context(), s)
	b.ok(err)
	return added
}

func (b *bench) set(server string, p catalog.ServerPatch) catalog.Server {
	b.Helper()
	s, err := b.cat.SetServer(b.Context(), server, p)
	b.ok(err)
	return s
}

// goes wants a tenant of the spec on the server.
func (b *bench) goes(spec catalog.TenantSpec, server string) {
	b.Helper()
	what := fmt.Sprintf("%+v", spec)
	spec.Slug = unique("t")
	made, err := b.cat.CreateTenant(b.Context(), spec, here())
	if err != nil || made.Tenant.Server != server {
		b.Errorf("%s: on %q, want %s: %v", what, made.Tenant.Server, server, err)
	}
}

// nowhere wants a tenant of the spec refused, each server for its reason.
func (b *bench) nowhere(spec catalog.TenantSpec, whys string) {
	b.Helper()
	what := fmt.Sprintf("%+v", spec)
	spec.Slug = unique("t")
	_, err := b.cat.CreateTenant(b.Context(), spec, here())
	full, ok := errors.AsType[*catalog.Full](err)
	if !ok || !errors.Is(err, catalog.ErrConflict) || full.Error() != "no server can take it: "+whys {
		b.Errorf("%s: refused with %v, want %s", what, err, whys)
	}
}

func TestPlacement_rules(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.nowhere(catalog.TenantSpec{}, "there is none")
	b.put(catalog.ServerSpec{Name: "pg-1", Region: "eu", Labels: map[string]string{"disk": "nvme", "rack": "a"}})
	b.put(catalog.ServerSpec{Name: "pg-2", Region: "eu"})
	b.put(catalog.ServerSpec{Name: "pg-3", Region: "us", Plans: []string{"enterprise"}})
	b.put(catalog.ServerSpec{Name: "pg-4", Region: "us", MaxDatabases: 1})
	draining, down := catalog.ServerDraining, catalog.ServerDown
	b.set("pg-2", catalog.ServerPatch{State: &draining})

	type spec = catalog.TenantSpec
	pin := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for _, p := range pairs {
			k, v, _ := strings.Cut(p, "=")
			m[k] = v
		}
		return m
	}
	b.goes(spec{Region: "us"}, "pg-4")
	b.goes(spec{}, "pg-1")
	b.goes(spec{Region: "eu"}, "pg-1")
	b.goes(spec{Server: "pg-1"}, "pg-1")
	b.goes(spec{Plan: "gold"}, "pg-1")
	b.goes(spec{Plan: "enterprise"}, "pg-3")
	b.goes(spec{Plan: "enterprise", Server: "pg-3", Region: "us"}, "pg-3")
	b.goes(spec{Pin: pin("disk=nvme")}, "pg-1")
	b.goes(spec{Pin: pin("disk=nvme", "rack=a")}, "pg-1")

	b.nowhere(spec{Region: "us"}, `pg-1: in region "eu"; pg-2: draining; pg-3: takes plans enterprise only; pg-4: full, 1 of 1 databases`)
	b.nowhere(spec{Region: "eu", Plan: "enterprise"}, `pg-1: plan enterprise goes to pg-3 only; pg-2: draining; `+
		`pg-3: in region "us"; pg-4: in region "us"`)
	b.nowhere(spec{Pin: pin("disk=nvme", "rack=b")}, "pg-1: not labelled rack=b; pg-2: draining; "+
		"pg-3: not labelled disk=nvme; pg-4: not labelled disk=nvme")
	b.nowhere(spec{Server: "pg-2"}, "pg-2: draining")
	b.nowhere(spec{Server: "pg-3"}, "pg-3: takes plans enterprise only")
	b.nowhere(spec{Server: "pg-4"}, "pg-4: full, 1 of 1 databases")
	b.nowhere(spec{Server: "pg-1", Plan: "enterprise"}, "pg-1: plan enterprise goes to pg-3 only")
	b.set("pg-1", catalog.ServerPatch{State: &down})
	b.nowhere(spec{Server: "pg-1"}, "pg-1: down")
}

func TestPlacement_longListIsCut(t *testing.T) {
	t.Parallel()
	full := &catalog.Full{}
	for i := range 25 {
		full.Servers = append(full.Servers, catalog.Refusal{Server: fmt.Sprintf("pg-%d", i), Why: "down"})
	}
	if text := full.Error(); !strings.HasSuffix(text, "pg-19: down; and 5 more") {
		t.Error(text)
	}
}

// The fullest of what a server has decides, so that none runs out of one thing
// while it has the other.
func TestPlacement_leastLoaded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.put(catalog.ServerSpec{Name: "a", Budget: 90, Reserve: 10, DiskBytes: 1000})
	b.put(catalog.ServerSpec{Name: "b", Budget: 90, Reserve: 10, MaxDatabases: 4})
	b.goes(catalog.TenantSpec{}, "a") // equal: by name
	b.goes(catalog.TenantSpec{}, "b")
	b.goes(catalog.TenantSpec{}, "a") // b has a quarter of its databases
	b.ok(b.cat.SetMeasure(t.Context(), a.ID, catalog.Measure{UsedBytes: 400, SyncMethod: "syncfs"}))
	b.goes(catalog.TenantSpec{}, "b") // a has two fifths of its disk
	b.goes(catalog.TenantSpec{}, "a") // b has half of its databases
}

func TestPlacement_density(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.put(catalog.ServerSpec{Name: "pg-1", DiskBytes: 1000})
	if s.Limit != 754 || s.Room != 754 || s.MaxRecovery != 120 || s.Recovery != 0 || s.MeasuredAt != nil {
		t.Errorf("not measured yet: %+v", s)
	}
	for _, c := range []struct {
		what            string
		m               catalog.Measure
		recovery, limit int
		room            int
	}{
		{"each file is synced", catalog.Measure{Databases: 1109, FilesADatabase: 455, SyncMethod: "fsync"}, 268, 0, 0},
		{"file systems are synced", catalog.Measure{Databases: 1109, FilesADatabase: 455, SyncMethod: "syncfs"}, 4, 42_847, 42_847},
		{"nothing is synced", catalog.Measure{Databases: 1109, FilesADatabase: 455, SyncMethod: "off"}, 4, 42_847, 42_847},
		{"others' files count", catalog.Measure{Databases: 334, FilesADatabase: 300, SyncMethod: "fsync"}, 54, 420, 420},
		{"none to look into: as before", catalog.Measure{SyncMethod: "fsync"}, 0, 754, 754},
		{"a disk with room", catalog.Measure{UsedBytes: 899, SyncMethod: "fsync"}, 0, 754, 754},
		{"a disk without", catalog.Measure{UsedBytes: 900, SyncMethod: "fsync"}, 0, 754, 0},
	} {
		b.ok(b.cat.SetMeasure(t.Context(), s.ID, c.m))
		got, err := b.cat.Server(t.Context(), "pg-1")
		b.ok(err)
		if got.Recovery != c.recovery || got.Limit != c.limit || got.Room != c.room || got.MeasuredAt == nil {
			t.Errorf("%s: recovery %d s, limit %d, room %d; want %d s, %d, %d",
				c.what, got.Recovery, got.Limit, got.Room, c.recovery, c.limit, c.room)
		}
	}
	b.nowhere(catalog.TenantSpec{}, "pg-1: full, 90 % of its disk")
	b.is(b.cat.SetMeasure(t.Context(), "00000000-0000-0000-0000-000000000000", catalog.Measure{}), catalog.ErrNotFound)

	b.ok(b.cat.SetMeasure(t.Context(), s.ID, catalog.Measure{FilesADatabase: 900, SyncMethod: "fsync"}))
	one := 1
	if s = b.set("pg-1", catalog.ServerPatch{MaxRecovery: &one}); s.Limit != 2 {
		t.Errorf("a second is for %d databases of 900 files", s.Limit)
	}
	b.goes(catalog.TenantSpec{}, "pg-1")
	b.goes(catalog.TenantSpec{}, "pg-1")
	b.nowhere(catalog.TenantSpec{}, "pg-1: full, 2 of 2 databases: with more, it would need over 1 s after a crash")
}

// Creations at once never overfill a server, and what is left elsewhere is found.
func TestPlacement_lastPlaces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "pg-1", MaxDatabases: 3})
	b.put(catalog.ServerSpec{Name: "pg-2", MaxDatabases: 2})
	for round := range 3 {
		three, two := 3+3*round, 2+2*round
		b.set("pg-1", catalog.ServerPatch{MaxDatabases: &three})
		b.set("pg-2", catalog.ServerPatch{MaxDatabases: &two})
		var (
			mu  sync.Mutex // guards on, refused
			on  = map[string]int{}
			no  int
			all sync.WaitGroup
		)
		for range 9 {
			all.Go(func() {
				made, err := b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: unique("t")}, here())
				mu.Lock()
				defer mu.Unlock()
				if _, full := errors.AsType[*catalog.Full](err); full {
					no++
				} else if err != nil {
					t.Error(err)
				} else {
					on[made.Tenant.Server]++
				}
			})
		}
		all.Wait()
		if on["pg-1"] != 3 || on["pg-2"] != 2 || no != 4 {
			t.Errorf("placed %v, refused %d", on, no)
		}
	}
}

// A ready database counts from the day it is made, so a full server still takes
// tenants by it.
func TestPlacement_ready(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "full", MaxDatabases: 2, Ready: 2})
	for range 2 {
		r, added, err := b.cat.AddReady(t.Context(), "full", 2)
		b.ok(err)
		if !added {
			t.Fatal("not added")
		}
		r.SchemaVersion = here().Latest
		b.ok(b.cat.SetReady(t.Context(), r, "making", "ready"))
	}
	s, err := b.cat.Server(t.Context(), "full")
	b.ok(err)
	if s.Databases != 2 || s.ReadyNow != 2 || s.Ready != 2 || s.Room != 0 || s.Tenants != 0 {
		t.Errorf("%+v", s)
	}
	b.put(catalog.ServerSpec{Name: "roomy", Budget: 1, Reserve: 1})
	for range 3 { // ready ones on a full server come last, however much the others have
		b.goes(catalog.TenantSpec{}, "roomy")
	}
	b.goes(catalog.TenantSpec{Server: "full"}, "full")
	draining := catalog.ServerDraining
	b.set("roomy", catalog.ServerPatch{State: &draining})
	b.goes(catalog.TenantSpec{}, "full")
	b.nowhere(catalog.TenantSpec{}, "full: full, 2 of 2 databases; roomy: draining")
	if s, err = b.cat.Server(t.Context(), "full"); err != nil || s.Databases != 2 || s.ReadyNow != 0 || s.Tenants != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}
