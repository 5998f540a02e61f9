package catalog

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

const selectDays = `
select day, model, requests, prompt_tokens, completion_tokens, cost
  from usage_daily where tenant = $1 order by day, model`

// UsageByDay reads what a tenant used, a line for each day and model.
func (c *Catalog) UsageByDay(ctx context.Context, id TenantID) ([]Usage, error) {
	rows, err := c.writer.Query(ctx, selectDays, id)
	if err != nil {
		return nil, wrap("read usage", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Usage])
	return list, wrap("read usage", err)
}

// BackupSource is the backup that a new tenant is made from.
type BackupSource struct {
	Tenant string    `json:"tenant"` // whose it is, by id
	Slug   string    `json:"slug"`
	Backup string    `json:"backup"` // its id
	Key    string    `json:"key"`
	MadeAt time.Time `json:"made_at"`
}

// sameSource reports whether an onboarding makes its tenant from that backup; nil:
// from none.
func sameSource(o Operation, from *BackupSource) bool {
	var has Target
	if json.Unmarshal(o.Args, &has) != nil {
		return false
	}
	if has.Backup == nil || from == nil {
		return has.Backup == nil && from == nil
	}
	return has.Backup.Backup == from.Backup
}
