package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const configColumns = `allowed_models, system_prompt_override, monthly_token_limit, concurrent_request_limit,
       prediction_log_retention_days, pii_detection_enabled, pii_mode, pii_allow, pii_deny, audit_log_enabled,
       fine_tuning_running_limit, fine_tuning_queue_limit, file_storage_limit`

const selectConfig = `
select ` + configColumns + ` from tenant_config where tenant = $1`

// TenantConfig reads a tenant's policy. ErrNotFound.
func (c *Catalog) TenantConfig(ctx context.Context, id TenantID) (TenantConfig, error) {
	list, err := asTenant(ctx, c, id, pgx.RowToStructByName[TenantConfig], selectConfig, id)
	if err == nil && len(list) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return TenantConfig{}, wrap("read configuration", err)
	}
	return list[0], nil
}

// ConfigPatch changes the fields that are not nil.
type ConfigPatch struct {
	AllowedModels              *[]string `json:"allowed_models"`
	SystemPromptOverride       *string   `json:"system_prompt_override"`
	MonthlyTokenLimit          *int64    `json:"monthly_token_limit"`
	ConcurrentRequestLimit     *int      `json:"concurrent_request_limit"`
	PredictionLogRetentionDays *int      `json:"prediction_log_retention_days"`
	PIIDetectionEnabled        *bool     `json:"pii_detection_enabled"`
	PIIMode                    *string   `json:"pii_mode"`
	PIIAllow                   *[]string `json:"pii_allow"`
	PIIDeny                    *[]string `json:"pii_deny"`
	AuditLogEnabled            *bool     `json:"audit_log_enabled"`
	FineTuningRunningLimit     *int      `json:"fine_tuning_running_limit"`
	FineTuningQueueLimit       *int      `json:"fine_tuning_queue_limit"`
	FileStorageLimit           *int64    `json:"file_storage_limit"`
}

const patchConfig = `
update tenant_config set
       allowed_models                = coalesce($2, allowed_models),
       system_prompt_override        = coalesce($3, system_prompt_override),
       monthly_token_limit           = coalesce($4, monthly_token_limit),
       concurrent_request_limit      = coalesce($5, concurrent_request_limit),
       prediction_log_retention_days = coalesce($6, prediction_log_retention_days),
       pii_detection_enabled         = coalesce($7, pii_detection_enabled),
       pii_mode                      = coalesce($8, pii_mode),
       audit_log_enabled             = coalesce($9, audit_log_enabled),
       pii_allow                     = coalesce($10, pii_allow),
       pii_deny                      = coalesce($11, pii_deny),
       fine_tuning_running_limit     = coalesce($12, fine_tuning_running_limit),
       fine_tuning_queue_limit       = coalesce($13, fine_tuning_queue_limit),
       file_storage_limit            = coalesce($14, file_storage_limit),
       updated_at                    = now()
 where tenant = $1
returning ` + configColumns

// PatchConfig changes the catalog only; fleet.PatchConfig also raises the fence.
// It returns the whole configuration and its epoch. A patch of nothing changes
// nothing.
func (c *Catalog) PatchConfig(ctx context.Context, id TenantID, p ConfigPatch) (TenantConfig, int64, error) {
	if err := p.validate(); err != nil {
		return TenantConfig{}, 0, fmt.Errorf("change configuration: %w", err)
	}
	var cfg TenantConfig
	epoch, err := c.changeTenant(ctx, "change configuration", id, func(tx pgx.Tx, _ State) (bool, error) {
		rows, err := tx.Query(ctx, patchConfig, id, given(p.AllowedModels), p.SystemPromptOverride, p.MonthlyTokenLimit,
			p.ConcurrentRequestLimit, p.PredictionLogRetentionDays, p.PIIDetectionEnabled, p.PIIMode,
			p.AuditLogEnabled, given(p.PIIAllow), given(p.PIIDeny), p.FineTuningRunningLimit, p.FineTuningQueueLimit,
			p.FileStorageLimit)
		if err != nil {
			return false, err
		}
		cfg, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[TenantConfig])
		return p != (ConfigPatch{}), err
	})
	return cfg, epoch, err
}

// given is a list as a statement's argument: null, which leaves the column as it
// is, for none only. A nil slice would be written as null too.
func given(list *[]string) []string {
	if list == nil {
		return nil
	}
	return append([]string{}, *list...)
}
