package catalog_test

import (
	"errors"
	"sync"
	"testing"

	"freehold/catalog"
)

// moveTo is an operation's arguments as a move has them.
type moveTo struct {
	To   string `json:"to"`
	From string `json:"from"`
}

// moves begins the move of a tenant.
func (b *bench) moves(t catalog.Tenant, want, region string) (catalog.Operation, error) {
	b.Helper()
	return b.cat.BeginMove(b.Context(), catalog.OperationSpec{
		Kind: catalog.KindMove, Tenant: t.ID, Actor: "test", Steps: []string{"check"},
	}, want, region, func(to catalog.Server) any { return moveTo{to.Name, t.Server} })
}

// lives makes an active tenant of the spec.
func (b *bench) lives(spec catalog.TenantSpec) catalog.Tenant {
	b.Helper()
	if spec.Slug == "" {
		spec.Slug = unique("t")
	}
	made, err := b.cat.CreateTenant(b.Context(), spec, here())
	b.ok(err)
	b.ok(b.cat.ActivateTenant(b.Context(), made.Tenant.ID))
	b.ok(b.cat.EndOperation(b.Context(), made.Operation, catalog.OperationDone, "", 0))
	t, err := b.cat.Tenant(b.Context(), made.Tenant.ID)
	b.ok(err)
	return t
}

func TestMoveTarget_rules(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "home", Region: "eu", Labels: map[string]string{"disk": "nvme"}})
	b.put(catalog.ServerSpec{Name: "eu-full", Region: "eu", MaxDatabases: 1})
	b.lives(catalog.TenantSpec{Server: "eu-full"})
	acme := b.lives(catalog.TenantSpec{Server: "home"})
	pinned := b.lives(catalog.TenantSpec{Server: "home", Pin: map[string]string{"disk": "nvme"}})
	old := b.put(catalog.ServerSpec{Name: "eu-old", Region: "eu"})
	_, err := b.cat.UpdateServer(t.Context(), catalog.ServerSpec{
		Name: old.Name, Region: "eu", Host: old.Host, Port: old.Port, SSLMode: "disable", AdminUser: "admin", Version: 150004,
		MaxConnections: 100, Budget: 90, Reserve: 10,
	})
	b.ok(err)
	b.put(catalog.ServerSpec{Name: "eu-gold", Region: "eu", Plans: []string{"gold"}})
	b.put(catalog.ServerSpec{Name: "us", Region: "us"})

	goes := func(id catalog.TenantID, want, region, to string) {
		t.Helper()
		got, err := b.cat.MoveTarget(t.Context(), id, want, region)
		if err != nil || got.Name != to {
			t.Errorf("to %q in %q: %q, %v; want %s", want, region, got.Name, err, to)
		}
	}
	refused := func(id catalog.TenantID, want, region string, is error, text string) {
		t.Helper()
		_, err := b.cat.MoveTarget(t.Context(), id, want, region)
		if !errors.Is(err, is) || err.Error() != text {
			t.Errorf("to %q in %q: %v, want %q", want, region, err, text)
		}
	}
	full := func(id catalog.TenantID, want, region, whys string) {
		t.Helper()
		refused(id, want, region, catalog.ErrConflict, "no server can take it: "+whys)
	}
	const older = "eu-old: Postgres 15, older than home's 16"
	full(acme.ID, "", "", `eu-full: full, 1 of 1 databases; eu-gold: takes plans gold only; `+older+`; us: in region "us"`)
	full(acme.ID, "eu-old", "", older)
	full(acme.ID, "eu-full", "", "eu-full: full, 1 of 1 databases")
	goes(acme.ID, "", "us", "us")
	goes(acme.ID, "us", "us", "us")
	refused(acme.ID, "us", "", catalog.ErrInvalid, `choose target: invalid: region: server us is in "us", the tenant's region is "eu": name the region that it goes to`)
	refused(acme.ID, "home", "", catalog.ErrInvalid, "choose target: invalid: to: the tenant lives on home already")
	refused(acme.ID, "nope", "", catalog.ErrNotFound, "choose target: server nope: not found")
	refused(catalog.NewTenantID(), "", "", catalog.ErrNotFound, "choose target: not found")

	b.put(catalog.ServerSpec{Name: "eu-new", Region: "eu"})
	goes(acme.ID, "", "", "eu-new")
	full(pinned.ID, "eu-new", "", "eu-new: not labelled disk=nvme")
	draining, down := catalog.ServerDraining, catalog.ServerDown
	b.set("eu-new", catalog.ServerPatch{State: &draining})
	full(acme.ID, "eu-new", "", "eu-new: draining")
	b.set("eu-new", catalog.ServerPatch{State: &down})
	full(acme.ID, "eu-new", "", "eu-new: down")

	_, err = b.cat.SetState(t.Context(), acme.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	goes(acme.ID, "", "us", "us")
	_, err = b.cat.SetState(t.Context(), acme.ID, catalog.Deleting, catalog.Suspended)
	b.ok(err)
	refused(acme.ID, "", "us", catalog.ErrConflict, "choose target: it is deleting: state forbids it")
	_, err = b.moves(acme, "", "us")
	b.is(err, catalog.ErrConflict)
}

// A move counts where it goes until it is there, or has ended; and a kept database
// until it is dropped.
func TestBeginMove_counts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "home"})
	b.put(catalog.ServerSpec{Name: "new", MaxDatabases: 1})
	one, other := b.lives(catalog.TenantSpec{Server: "home"}), b.lives(catalog.TenantSpec{Server: "home"})
	op, err := b.moves(one, "", "")
	b.ok(err)
	has := func(server string, tenants, coming, kept, databases int) {
		t.Helper()
		s, err := b.cat.Server(t.Context(), server)
		b.ok(err)
		if s.Tenants != tenants || s.Coming != coming || s.Kept != kept || s.Databases != databases {
			t.Errorf("%s: %d tenants, %d coming, %d kept, %d databases", server, s.Tenants, s.Coming, s.Kept, s.Databases)
		}
	}
	has("home", 2, 0, 0, 2)
	has("new", 0, 1, 0, 1)
	b.nowhere(catalog.TenantSpec{Server: "new"}, "new: full, 1 of 1 databases")
	if _, err := b.moves(other, "new", ""); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a place was given twice: %v", err)
	}
	two := 2
	b.set("new", catalog.ServerPatch{MaxDatabases: &two})
	busy, ok := errors.AsType[*catalog.Busy](func() error { _, err := b.moves(one, "", ""); return err }())
	if !ok || busy.Operation.ID != op.ID {
		t.Errorf("a second move of a tenant: %v", busy)
	}
	b.is(b.cat.RemoveServer(t.Context(), "new"), catalog.ErrConflict)

	_, err = b.cat.SetState(t.Context(), one.ID, catalog.Moving, catalog.Active)
	b.ok(err)
	_, err = b.cat.SwitchServer(t.Context(), one.ID, "new")
	b.ok(err)
	has("new", 1, 0, 0, 1)
	b.ok(b.cat.KeepDatabase(t.Context(), catalog.KeptDatabase{
		TenantID: one.ID, Server: "home", Database: "freehold_kept_x", Why: catalog.KeptMoved, Operation: op.ID,
	}))
	has("home", 1, 0, 1, 2)
	taken, err := b.cat.TakeOperation(t.Context(), op.ID, catalog.Taker{Worker: "w", Lease: here().Lease})
	b.ok(err)
	b.ok(b.cat.EndOperation(t.Context(), taken, catalog.OperationDone, "", 0))

	second, err := b.moves(other, "", "")
	b.ok(err)
	has("new", 1, 1, 0, 2)
	_, err = b.cat.CancelOperation(t.Context(), second.ID)
	b.ok(err)
	has("new", 1, 0, 0, 1)
}

// Moves that begin at once, beside creations, never overfill a server.
func TestBeginMove_lastPlaces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.put(catalog.ServerSpec{Name: "home"})
	var list []catalog.Tenant
	for range 20 {
		list = append(list, b.lives(catalog.TenantSpec{Server: "home"}))
	}
	b.put(catalog.ServerSpec{Name: "pg-1", MaxDatabases: 7})
	b.put(catalog.ServerSpec{Name: "pg-2", MaxDatabases: 4})
	draining := catalog.ServerDraining
	b.set("home", catalog.ServerPatch{State: &draining})
	var (
		mu  sync.Mutex // guards on and no
		on  = map[string]int{}
		no  int
		all sync.WaitGroup
	)
	count := func(server string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if _, full := errors.AsType[*catalog.Full](err); full {
			no++
		} else if err != nil {
			t.Error(err)
		} else {
			on[server]++
		}
	}
	for _, tenant := range list {
		all.Go(func() {
			var where string
			_, err := b.cat.BeginMove(t.Context(), catalog.OperationSpec{
				Kind: catalog.KindMove, Tenant: tenant.ID, Actor: "test", Steps: []string{"check"},
			}, "", "", func(s catalog.Server) any { where = s.Name; return moveTo{s.Name, "home"} })
			count(where, err)
		})
	}
	for range 4 {
		all.Go(func() {
			made, err := b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: unique("t")}, here())
			count(made.Tenant.Server, err)
		})
	}
	all.Wait()
	if on["pg-1"] != 7 || on["pg-2"] != 4 || no != 13 {
		t.Errorf("placed %v, refused %d", on, no)
	}
}

func TestServerLinks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, name := range []string{"a", "b", "c"} {
		b.put(catalog.ServerSpec{Name: name})
	}
	if why, known, err := b.cat.ServerLink(t.Context(), "a", "b"); err != nil || known || why != "" {
		t.Errorf("nobody has tried: %q, %t, %v", why, known, err)
	}
	b.ok(b.cat.SetServerLink(t.Context(), "a", "b", "connection refused"))
	b.ok(b.cat.SetServerLink(t.Context(), "b", "a", ""))
	if why, known, err := b.cat.ServerLink(t.Context(), "a", "b"); err != nil || !known || why != "connection refused" {
		t.Errorf("%q, %t, %v", why, known, err)
	}
	b.ok(b.cat.SetServerLink(t.Context(), "a", "b", "")) // mended
	if why, known, err := b.cat.ServerLink(t.Context(), "a", "b"); err != nil || !known || why != "" {
		t.Errorf("%q, %t, %v", why, known, err)
	}
	b.ok(b.cat.SetServerLink(t.Context(), "c", "a", "no"))
	list, err := b.cat.ServerLinks(t.Context(), "b")
	if err != nil || len(list) != 2 || list[0].Target != "b" || list[1].Source != "b" || list[0].CheckedAt.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	b.is(b.cat.SetServerLink(t.Context(), "a", "nope", ""), catalog.ErrNotFound)
	b.is(b.cat.SetFitness(t.Context(), "nope", catalog.Fitness{}), catalog.ErrNotFound)
	b.ok(b.cat.SetFitness(t.Context(), "a", catalog.Fitness{WALLevel: "logical", CanPublish: true}))
	if s, err := b.cat.Server(t.Context(), "a"); err != nil || s.WALLevel != "logical" || !s.CanPublish || s.CanSubscribe {
		t.Errorf("%+v, %v", s, err)
	}
	b.ok(b.cat.RemoveServer(t.Context(), "a"))
	if list, err := b.cat.ServerLinks(t.Context(), "b"); err != nil || len(list) != 0 {
		t.Errorf("of a server that is gone: %+v, %v", list, err)
	}
}
