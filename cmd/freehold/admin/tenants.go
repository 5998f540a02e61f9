package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/need"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/fleet"
)

func (s *server) tenants(ctx context.Context, _ operator, r *rest.Request) (page rest.List[need.BackedUp], err error) {
	limit, after, err := r.Page(100, 1000)
	if err != nil {
		return page, err
	}
	state := r.Query("state")
	known := []catalog.State{"", catalog.Provisioning, catalog.Active, catalog.Suspended, catalog.Moving, catalog.Deleting, catalog.Deleted}
	if !slices.Contains(known, catalog.State(state)) {
		return page, rest.Bad("state", fmt.Sprintf("No such state: %q.", state))
	}
	f := catalog.TenantFilter{
		State: state, Server: r.Query("server"), Region: r.Query("region"), Plan: r.Query("plan"), Label: r.Query("label"),
		Schema: r.Query("schema"), After: after, Limit: limit + 1, // one more tells whether there are more
	}
	ages := map[string]*time.Duration{"older_than": &f.OlderThan, "newer_than": &f.NewerThan, "backup_older_than": &f.BackupOlderThan}
	for name, age := range ages {
		if text := r.Query(name); text != "" {
			if *age, err = catalog.ParseAge(name, text); err != nil {
				return page, err
			}
		}
	}
	list, err := s.catalog.Tenants(ctx, f)
	if err != nil {
		return page, err
	}
	var states map[catalog.TenantID]need.BackupState
	if f.BackupOlderThan > 0 {
		if states, err = need.BackupStates(ctx, s.catalog, f.BackupOlderThan); err != nil {
			return page, err
		}
	}
	tenants := make([]need.BackedUp, len(list))
	for i, t := range list {
		tenants[i].Tenant = t
		if state, ok := states[t.ID]; ok {
			tenants[i].Backup = &state
		}
	}
	return rest.Page(tenants, limit, func(t need.BackedUp) string { return t.Slug }), nil
}

func (s *server) tenant(ctx context.Context, _ operator, r *rest.Request) (catalog.Tenant, error) {
	return s.catalog.TenantBySlug(ctx, r.Param("slug"))
}

func (s *server) config(ctx context.Context, _ operator, r *rest.Request) (catalog.TenantConfig, error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return catalog.TenantConfig{}, err
	}
	return s.catalog.TenantConfig(ctx, t.ID)
}

func (s *server) patchConfig(ctx context.Context, who operator, r *rest.Request, in catalog.ConfigPatch) (catalog.TenantConfig, error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return catalog.TenantConfig{}, err
	}
	cfg, err := s.fleet.PatchConfig(ctx, t.ID, in)
	if err == nil || stands(err) {
		// What a tenant's prompts are told is content: the audit says that it changed.
		s.audit(ctx, who, r, "config.set", t.ID, map[string]any{"names": named(in)})
	}
	return cfg, err
}

// named lists what a patch changes.
func named(p catalog.ConfigPatch) []string {
	var names []string
	for _, f := range []struct {
		given bool
		name  string
	}{
		{p.AllowedModels != nil, "allowed_models"},
		{p.SystemPromptOverride != nil, "system_prompt_override"},
		{p.MonthlyTokenLimit != nil, "monthly_token_limit"},
		{p.ConcurrentRequestLimit != nil, "concurrent_request_limit"},
		{p.PredictionLogRetentionDays != nil, "prediction_log_retention_days"},
		{p.PIIDetectionEnabled != nil, "pii_detection_enabled"},
		{p.PIIMode != nil, "pii_mode"},
		{p.PIIAllow != nil, "pii_allow"},
		{p.PIIDeny != nil, "pii_deny"},
		{p.AuditLogEnabled != nil, "audit_log_enabled"},
		{p.FineTuningRunningLimit != nil, "fine_tuning_running_limit"},
		{p.FineTuningQueueLimit != nil, "fine_tuning_queue_limit"},
		{p.FileStorageLimit != nil, "file_storage_limit"},
	} {
		if f.given {
			names = append(names, f.name)
		}
	}
	return names
}

type proof struct {
	Tenant string            `json:"tenant"`
	OK     bool              `json:"ok"`
	Lines  []fleet.ProofLine `json:"lines"`
}

func (s *server) prove(ctx context.Context, who operator, r *rest.Request) (proof, error) {
	t, err := s.catalog.TenantBySlug(ctx, r.Param("slug"))
	if err != nil {
		return proof{}, err
	}
	lines, err := s.fleet.Prove(ctx, t.ID)
	if err != nil {
		return proof{}, err
	}
	p := proof{Tenant: t.Slug, OK: !slices.ContainsFunc(lines, func(l fleet.ProofLine) bool { return !l.OK }), Lines: lines}
	s.audit(ctx, who, r, "tenant.prove", t.ID, map[string]any{"ok": p.OK, "tried": len(lines)})
	return p, nil
}
