package catalog_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

func TestFindings(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.tenant("acme")
	missing := catalog.Finding{Kind: "database_missing", Object: "pg-1/t_1", Server: "pg-1", Tenant: acme.ID, What: "gone", Fix: "freehold tenant show acme"}
	strange := catalog.Finding{Kind: "prefix_unknown", Object: "tenants/x/", What: "strange", Fix: "look"}
	away := catalog.Finding{Kind: "role_missing", Object: "pg-2/t_2", Server: "pg-2", What: "gone"}
	list, err := b.cat.ReplaceFindings(t.Context(), []catalog.Finding{missing, strange, away}, nil)
	b.ok(err)
	if got := objects(list); got != "pg-1/t_1 tenants/x/ pg-2/t_2" || list[0].Tenant != acme.ID || !list[1].Tenant.IsZero() {
		t.Fatalf("%s: %+v", got, list)
	}
	admin := b.admin()
	b.exec(admin, "update findings set since = now() - interval '1 hour'")

	// What is so still keeps its time; what couldn't be looked at stays; else it goes.
	missing.What = "gone for good"
	list, err = b.cat.ReplaceFindings(t.Context(), []catalog.Finding{missing}, []string{"pg-2"})
	b.ok(err)
	if got := objects(list); got != "pg-1/t_1 pg-2/t_2" {
		t.Errorf("left: %s", got)
	}
	if f := list[0]; f.What != "gone for good" || f.Age < time.Hour || f.Age > 2*time.Hour || time.Since(f.Since) < 59*time.Minute {
		t.Errorf("%+v", f)
	}
	// "" is the object store.
	_, err = b.cat.ReplaceFindings(t.Context(), []catalog.Finding{strange}, nil)
	b.ok(err)
	list, err = b.cat.ReplaceFindings(t.Context(), nil, []string{""})
	b.ok(err)
	if got := objects(list); got != "tenants/x/" {
		t.Errorf("left: %s", got)
	}
	list, err = b.cat.ReplaceFindings(t.Context(), nil, nil)
	b.ok(err)
	if again, err := b.cat.Findings(t.Context()); err != nil || len(list)+len(again) != 0 {
		t.Errorf("left: %v %v %v", list, again, err)
	}
}

// Two looks that end at once are one after the other.
func TestFindingsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	found := []catalog.Finding{{Kind: "k", Object: "o", What: "w"}, {Kind: "k", Object: "p", What: "w"}}
	errs := make(chan error, 8)
	for i := range cap(errs) {
		go func() {
			_, err := b.cat.ReplaceFindings(t.Context(), found[i%2:], nil)
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func objects(list []catalog.Finding) string {
	var names []string
	for _, f := range list {
		names = append(names, f.Object)
	}
	return strings.Join(names, " ")
}

func TestResidents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, globex := b.tenant("acme"), b.tenant("globex")
	admin := b.admin()
	ready := catalog.NewTenantID()
	b.exec(admin, `insert into ready_databases (id, server_id, secret, secret_key_id, state)
		select $1, id, '', 0, 'dropping' from servers`, ready)
	b.exec(admin, `update tenants set state = 'deleted', updated_at = now() - interval '3 days' where slug = 'globex'`)
	b.exec(admin, `insert into operations (id, kind, tenant, actor) values (gen_random_uuid(), 'onboard', $1, 'x')`, acme.ID)

	var all []catalog.Resident
	b.ok(b.cat.Residents(t.Context(), func(r catalog.Resident) { all = append(all, r) }))
	at := func(id catalog.TenantID) catalog.Resident {
		i := slices.IndexFunc(all, func(r catalog.Resident) bool { return r.ID == id })
		if i < 0 {
			t.Fatalf("%s isn't among %+v", id, all)
		}
		one, err := b.cat.Resident(t.Context(), id)
		b.ok(err)
		if one.State != all[i].State || one.Busy != all[i].Busy {
			t.Errorf("%+v, alone %+v", all[i], one)
		}
		return all[i]
	}
	if r := at(acme.ID); r.Slug != "acme" || r.Server != "pg-1" || r.Ready || r.State != "active" || !r.Busy {
		t.Errorf("%+v", r)
	}
	if r := at(globex.ID); r.State != "deleted" || r.Busy || r.Changed < 71*time.Hour {
		t.Errorf("%+v", r)
	}
	if r := at(ready); !r.Ready || r.State != "dropping" || r.Server != "pg-1" {
		t.Errorf("%+v", r)
	}
	_, err := b.cat.Resident(t.Context(), catalog.NewTenantID())
	b.is(err, catalog.ErrNotFound)
}
