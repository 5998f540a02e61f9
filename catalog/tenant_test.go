package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"freehold/catalog"
)

func TestCreateTenant_resumes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	spec := catalog.TenantSpec{Slug: "acme", Name: "Acme", Email: "a@acme.test", Labels: map[string]string{"tier": "gold"}}
	made, err := b.cat.CreateTenant(t.Context(), spec, here())
	b.ok(err)
	first := made.Tenant
	if made.Resumed || made.Token == "" || made.Operation.State != catalog.OperationRunning || first.State != catalog.Provisioning || first.Server != "pg-1" || first.Epoch == 0 ||
		first.Database != first.ID.DatabaseName() || first.Plan != "standard" {
		t.Errorf("created %+v", made)
	}
	cfg, err := b.cat.TenantConfig(t.Context(), first.ID)
	b.ok(err)
	if !cfg.Allows("anything") || cfg.MonthlyTokenLimit != 1_000_000 || cfg.ConcurrentRequestLimit != 10 ||
		cfg.FineTuningRunningLimit != 2 || cfg.FineTuningQueueLimit != 20 || cfg.FileStorageLimit != 10<<30 || cfg.PIIMode != "restore" || !cfg.PIIDetectionEnabled || !cfg.AuditLogEnabled || cfg.PredictionLogRetentionDays != 90 {
		t.Errorf("defaults are %+v", cfg)
	}
	_, err = b.cat.CreateTenant(t.Context(), spec, here())
	if busy, ok := errors.AsType[*catalog.Busy](err); !ok || busy.Operation.ID != made.Operation.ID {
		t.Errorf("while somebody is at it: %v", err)
	}
	b.ok(b.cat.EndOperation(t.Context(), made.Operation, catalog.OperationFailed, "tried", 0))
	other := spec
	other.Email = "b@acme.test"
	_, err = b.cat.CreateTenant(t.Context(), other, here())
	b.is(err, catalog.ErrExists) // it would get the key of somebody else's tenant
	again, err := b.cat.CreateTenant(t.Context(), spec, here())
	b.ok(err)
	if !again.Resumed || again.Tenant.ID != first.ID || again.Operation.ID != made.Operation.ID || again.Token == made.Token {
		t.Errorf("resumed %+v", again)
	}
	keys, err := b.cat.Keys(t.Context(), first.ID)
	b.ok(err)
	if len(keys) != 1 {
		t.Errorf("%d keys after two tries", len(keys))
	}
	b.ok(b.cat.ActivateTenant(t.Context(), first.ID))
	_, err = b.cat.CreateTenant(t.Context(), spec, here())
	b.is(err, catalog.ErrExists)
}

func TestCreateTenant_onceUnderConcurrency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	var mu sync.Mutex
	ids := map[catalog.TenantID]int{}
	made := 0
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			one, err := b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: "acme"}, here())
			mu.Lock()
			defer mu.Unlock()
			busy, others := errors.AsType[*catalog.Busy](err)
			switch {
			case err == nil:
				made++
				ids[one.Tenant.ID]++
			case others:
				ids[busy.Operation.TenantID]++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(ids) != 1 || made != 1 {
		t.Errorf("%d tenants, made %d times", len(ids), made)
	}
}

func TestCreateTenant_placement(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: "acme"}, here())
	b.is(err, catalog.ErrConflict)

	for _, s := range []catalog.ServerSpec{
		{Name: "small", Region: "eu", Budget: 10}, {Name: "large", Region: "eu", Budget: 30}, {Name: "us-1", Region: "us", Budget: 10},
	} {
		s.Host, s.SSLMode, s.AdminUser, s.Version, s.MaxConnections = "h", "disable", "a", 160000, 100
		_, err := b.cat.AddServer(t.Context(), s)
		b.ok(err)
	}
	on := map[string]int{}
	for range 8 {
		made, err := b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: unique("t"), Region: "eu"}, here())
		b.ok(err)
		on[made.Tenant.Server]++
	}
	if on["small"] != 2 || on["large"] != 6 {
		t.Errorf("placed by load: %v", on)
	}
	made, err := b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: "us", Server: "us-1"}, here())
	b.ok(err)
	if tenant := made.Tenant; tenant.Region != "us" {
		t.Errorf("region is %q, want the server's", tenant.Region)
	}
	_, err = b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: "other", Server: "us-1", Region: "eu"}, here())
	b.is(err, catalog.ErrInvalid)
	_, err = b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: "other", Server: "none"}, here())
	b.is(err, catalog.ErrNotFound)
	b.is(b.cat.RemoveServer(t.Context(), "us-1"), catalog.ErrConflict)
	b.is(b.cat.RemoveServer(t.Context(), "none"), catalog.ErrNotFound)
}

func TestValidation_namesEveryField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	tenant := b.tenant("acme")
	bad := "pass\x00word"
	_, tenantErr := b.cat.CreateTenant(ctx, catalog.TenantSpec{
		Slug: "A", Name: strings.Repeat("n", 300), Email: "nobody", Plan: "Über", Region: "x y", Server: "-",
		Labels: map[string]string{"a b": "c\nd"},
	}, here())
	_, serverErr := b.cat.AddServer(ctx, catalog.ServerSpec{
		Name: "A", Host: "a,b", Port: 70000, SSLMode: "prefer", SSLRootCA: "x", Password: bad, Version: 14, MaxConnections: 10,
		Budget: 20, Reserve: 30,
	})
	_, engineErr := b.cat.AddEngine(ctx, catalog.EngineSpec{Name: "A", Kind: "vllm", Key: bad, Timeout: -1})
	_, urlErr := b.cat.AddEngine(ctx, catalog.EngineSpec{Name: "a", Kind: "openai", BaseURL: "https://u:hidden@host/"})
	_, modelErr := b.cat.AddModel(ctx, catalog.Model{Name: " ", Engine: "A", Kind: "x", InputPrice: "-1", OutputPrice: "1e9"})
	models, limit, slots, days, mode := []string{"*x"}, int64(-1), 0, -1, "off"
	_, _, keyErr := b.cat.CreateKey(ctx, tenant.ID, catalog.KeySpec{
		Name: "a\nb", Scopes: []string{"root"}, AllowedModels: models, MonthlyTokenLimit: &limit, ConcurrentRequestLimit: new(int),
	})
	_, _, configErr := b.cat.PatchConfig(ctx, tenant.ID, catalog.ConfigPatch{
		AllowedModels: &models, MonthlyTokenLimit: &limit, ConcurrentRequestLimit: &slots,
		PredictionLogRetentionDays: &days, PIIMode: &mode, SystemPromptOverride: &bad,
		PIIAllow: &[]string{bad}, PIIDeny: &[]string{""},
		FineTuningRunningLimit: &days, FineTuningQueueLimit: &days, FileStorageLimit: &limit,
	})
	for _, c := range []struct {
		err    error
		fields string
	}{
		{tenantErr, "slug name email plan region server labels"},
		{serverErr, "name host port ssl_mode ssl_root_ca admin_user password version budget reserve"},
		{engineErr, "name kind key timeout_seconds"},
		{urlErr, "base_url"},
		{modelErr, "name engine kind input_price output_price"},
		{keyErr, "name scopes allowed_models monthly_token_limit concurrent_request_limit"},
		{configErr, "allowed_models monthly_token_limit concurrent_request_limit prediction_log_retention_days fine_tuning_running_limit fine_tuning_queue_limit file_storage_limit pii_mode pii_allow pii_deny system_prompt_override"},
	} {
		b.is(c.err, catalog.ErrInvalid)
		for field := range strings.FieldsSeq(c.fields) {
			if !strings.Contains(c.err.Error(), field+":") {
				t.Errorf("%v\ndoesn't name %s", c.err, field)
			}
		}
		for _, secret := range []string{bad, "hidden"} {
			if strings.Contains(c.err.Error(), secret) {
				t.Errorf("%v tells a secret", c.err)
			}
		}
	}
}

func TestSetState_guards(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	tenant := b.tenant("acme")
	first, err := b.cat.SetState(ctx, tenant.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	_, err = b.cat.SetState(ctx, tenant.ID, catalog.Suspended, catalog.Active)
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.SetState(ctx, tenant.ID, catalog.Provisioning, catalog.Active)
	b.is(err, catalog.ErrInvalid)
	_, err = b.cat.SetState(ctx, tenant.ID, catalog.Active)
	b.is(err, catalog.ErrInvalid)
	_, err = b.cat.SetState(ctx, catalog.NewTenantID(), catalog.Active, catalog.Suspended)
	b.is(err, catalog.ErrNotFound)
	second, err := b.cat.SetState(ctx, tenant.ID, catalog.Deleting, catalog.Active, catalog.Suspended)
	b.ok(err)
	if second <= first {
		t.Errorf("epoch went from %d to %d", first, second)
	}
	_, _, err = b.cat.CreateKey(ctx, tenant.ID, catalog.KeySpec{Scopes: []string{"all"}})
	b.is(err, catalog.ErrConflict)
	_, err = b.cat.SetState(ctx, tenant.ID, catalog.Deleted, catalog.Deleting)
	b.ok(err)
	_, err = b.cat.SetState(ctx, tenant.ID, catalog.Suspended, catalog.Deleting)
	b.is(err, catalog.ErrNotFound)
	_, err = b.cat.Route(ctx, tenant.ID)
	b.is(err, catalog.ErrNotFound)
	_, err = b.cat.TenantBySlug(ctx, "acme")
	b.is(err, catalog.ErrNotFound)
	// The slug is free again.
	if made, err := b.cat.CreateTenant(ctx, catalog.TenantSpec{Slug: "acme"}, here()); err != nil || made.Tenant.ID == tenant.ID {
		t.Errorf("created %+v: %v", made, err)
	}
}

func TestTenants_filters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server("pg-1")
	b.server("pg-2")
	for i, spec := range []catalog.TenantSpec{
		{Slug: "aa", Plan: "gold", Labels: map[string]string{"team": "red"}},
		{Slug: "bb", Plan: "gold", Labels: map[string]string{"team": "blue"}},
		{Slug: "cc"},
	} {
		spec.Server = fmt.Sprintf("pg-%d", i%2+1)
		_, err := b.cat.CreateTenant(t.Context(), spec, here())
		b.ok(err)
	}
	for _, c := range []struct {
		filter catalog.TenantFilter
		want   string
	}{
		{catalog.TenantFilter{}, "aa bb cc"},
		{catalog.TenantFilter{Limit: 2}, "aa bb"},
		{catalog.TenantFilter{After: "bb"}, "cc"},
		{catalog.TenantFilter{Plan: "gold"}, "aa bb"},
		{catalog.TenantFilter{Server: "pg-1"}, "aa cc"},
		{catalog.TenantFilter{Label: "team"}, "aa bb"},
		{catalog.TenantFilter{Label: "team=blue"}, "bb"},
		{catalog.TenantFilter{Label: "team="}, ""},
		{catalog.TenantFilter{State: "deleted"}, ""},
		{catalog.TenantFilter{State: "provisioning", After: "aa", Limit: 1}, "bb"},
	} {
		list, err := b.cat.Tenants(t.Context(), c.filter)
		b.ok(err)
		var slugs []string
		for _, tenant := range list {
			slugs = append(slugs, tenant.Slug)
		}
		if got := strings.Join(slugs, " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.filter, got, c.want)
		}
	}
}

// Numbers are given in the order of commits: whoever reads the clock has every
// change up to it.
func TestEpochs_orderOfCommits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenants := []catalog.Tenant{b.tenant("aa"), b.tenant("bb"), b.tenant("cc")}
	ctx := t.Context()
	reader := b.as("freehold_catalog")
	stop, read := make(chan struct{}), make(chan error, 1)
	go func() {
		var last int64
		for {
			// One snapshot: no tenant may be ahead of the clock, and the clock never
			// goes back.
			var seq, highest int64
			err := reader.QueryRow(ctx, `select seq, (select max(epoch) from tenants) from catalog_clock`).Scan(&seq, &highest)
			if err == nil && (highest > seq || seq < last) {
				err = fmt.Errorf("clock at %d after %d, a tenant at %d", seq, last, highest)
			}
			last = seq
			select {
			case <-stop:
				read <- err
				return
			default:
				if err != nil {
					read <- err
					return
				}
			}
		}
	}()
	var mu sync.Mutex
	var epochs []int64
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			limit := int64(i)
			_, epoch, err := b.cat.PatchConfig(ctx, tenants[i%3].ID, catalog.ConfigPatch{MonthlyTokenLimit: &limit})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			epochs = append(epochs, epoch)
		})
	}
	all.Wait()
	close(stop)
	b.ok(<-read)
	slices.Sort(epochs)
	if n := len(slices.Compact(slices.Clone(epochs))); n != 100 {
		t.Errorf("%d different numbers of 100", n)
	}
	if epochs[99]-epochs[0] != 99 {
		t.Errorf("numbers from %d to %d have gaps", epochs[0], epochs[99])
	}
}

func TestVersions_areEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenant := b.tenant("acme")
	b.ok(b.cat.SetVersions(t.Context(), tenant.ID, catalog.Versions{Freehold: 7, Product: 2}, 7))
	one, err := b.cat.Route(t.Context(), tenant.ID)
	b.ok(err)
	b.ok(b.cat.SetVersions(t.Context(), tenant.ID, catalog.Versions{Freehold: 7, Product: 2}, 7))
	two, err := b.cat.Route(t.Context(), tenant.ID)
	b.ok(err)
	if one.SchemaVersion != 7 || one.Epoch != two.Epoch {
		t.Errorf("version %d, epochs %d and %d", one.SchemaVersion, one.Epoch, two.Epoch)
	}
}
