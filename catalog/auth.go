package catalog

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Identity is who calls, with the policy in force: all of it read no earlier
// than Epoch says. Its slices are shared with other callers: don't change them.
type Identity struct {
	Tenant TenantID
	Slug   string
	State  State
	KeyID  string
	Scopes []string
	Epoch  int64
	Config TenantConfig
	Limits KeyLimits // the key's own
	// As in the tenant's Route.
	SchemaVersion, SchemaNeeds int64
	// Expires is when the key ends; zero: never.
	Expires time.Time
}

// Has reports whether the key has the scope (or ScopeAll).
func (i Identity) Has(scope string) bool {
	for _, s := range i.Scopes {
		if s == scope || s == ScopeAll {
			return true
		}
	}
	return false
}

// over reports whether the key has expired.
func (i Identity) over(now time.Time) bool { return !i.Expires.IsZero() && !now.Before(i.Expires) }

// keyRecord is all that is known of an API key.
type keyRecord struct {
	identity Identity
	hash     [sha256.Size]byte
	revoked  bool
}

// nobody is compared with when the id is unknown, so that the answer takes the
// same steps. No token has this hash.
var nobody keyRecord

// admit decides on the key: the right secret, not expired, not revoked, of a
// tenant that lives. Whoever is suspended or moving is still told apart by the
// state.
func (k *keyRecord) admit(token string, now time.Time) (Identity, error) {
	hash := sha256.Sum256([]byte(token))
	same := subtle.ConstantTimeCompare(hash[:], k.hash[:]) == 1
	if !same || k.revoked || k.identity.over(now) {
		return Identity{}, ErrInvalidKey
	}
	switch k.identity.State {
	case Active, Suspended, Moving:
		return k.identity, nil
	}
	return Identity{}, ErrInvalidKey
}

const (
	lookUpKey = `select tenant, hash from auth_key($1)`

	selectTruth = `select slug, state, epoch, schema_version, schema_needs from tenants where id = $1`

	selectKey = `
select k.scopes, k.expires_at, k.revoked_at is not null,
       k.allowed_models, k.monthly_token_limit, k.concurrent_request_limit,
       c.allowed_models, c.system_prompt_override, c.monthly_token_limit, c.concurrent_request_limit,
       c.prediction_log_retention_days, c.pii_detection_enabled, c.pii_mode, c.pii_allow,
       c.pii_deny, c.audit_log_enabled, c.fine_tuning_running_limit, c.fine_tuning_queue_limit, c.file_storage_limit
  from api_keys k join tenant_config c on c.tenant = k.tenant
 where k.id = $1`
)

// loadKey reads a key and its tenant's policy; ErrNotFound for an unknown id. The
// epoch is read before key and policy, so these are never older than it says.
func (c *Catalog) loadKey(ctx context.Context, id string) (*keyRecord, error) {
	var tenant pgtype.UUID
	var hash []byte
	if err := c.reader.QueryRow(ctx, lookUpKey, id).Scan(&tenant, &hash); err != nil {
		return nil, wrap("look key up", err)
	}
	if !tenant.Valid {
		return nil, fmt.Errorf("look key up: %w", ErrNotFound)
	}
	rec := &keyRecord{hash: [sha256.Size]byte(hash)}
	who := &rec.identity
	who.KeyID = id
	if err := who.Tenant.ScanUUID(tenant); err != nil {
		return nil, err
	}
	err := c.writer.QueryRow(ctx, selectTruth, who.Tenant).Scan(&who.Slug, &who.State, &who.Epoch,
		&who.SchemaVersion, &who.SchemaNeeds)
	if err != nil {
		return nil, wrap("look key up", err)
	}
	list, err := asTenant(ctx, c, who.Tenant, rec.scan, selectKey, id)
	if err == nil && len(list) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return nil, wrap("look key up", err)
	}
	return rec, nil
}

func (k *keyRecord) scan(row pgx.CollectableRow) (struct{}, error) {
	cfg, own := &k.identity.Config, &k.identity.Limits
	var expires *time.Time
	err := row.Scan(&k.identity.Scopes, &expires, &k.revoked,
		&own.AllowedModels, &own.MonthlyTokenLimit, &own.ConcurrentRequestLimit,
		&cfg.AllowedModels, &cfg.SystemPromptOverride, &cfg.MonthlyTokenLimit, &cfg.ConcurrentRequestLimit,
		&cfg.PredictionLogRetentionDays, &cfg.PIIDetectionEnabled, &cfg.PIIMode, &cfg.PIIAllow,
		&cfg.PIIDeny, &cfg.AuditLogEnabled, &cfg.FineTuningRunningLimit, &cfg.FineTuningQueueLimit, &cfg.FileStorageLimit)
	if expires != nil {
		k.identity.Expires = *expires
	}
	return struct{}{}, err
}
