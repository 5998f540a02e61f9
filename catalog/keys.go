package catalog

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Scopes lists every scope that a key may have.
func Scopes() []string {
	return []string{ScopeAll, ScopeInference, ScopeRead, ScopeErase, ScopeModels, ScopeFiles,
		ScopeFineTuning, ScopeKeys, ScopeExport}
}

func (s KeySpec) validate() error {
	errs := []error{line("name", s.Name, maxName)}
	if len(s.Scopes) == 0 {
		errs = append(errs, wrong("scopes", "none named"))
	}
	for _, scope := range s.Scopes {
		errs = append(errs, oneOf("scopes", scope, Scopes()...))
	}
	if s.ExpiresAt != nil && !s.ExpiresAt.After(time.Now()) {
		errs = append(errs, wrong("expires_at", "already past"))
	}
	return invalid(errs...)
}

const keyColumns = `id, name, scopes, created_at, expires_at, revoked_at`

const insertKey = `
insert into api_keys (id, tenant, name, hash, scopes, expires_at)
values ($1, $2, $3, $4, $5, $6) returning ` + keyColumns

// CreateKey makes a key; the token is shown now or never. Unknown scope:
// ErrInvalid. A tenant that is being deleted gets none: ErrConflict.
func (c *Catalog) CreateKey(ctx context.Context, id TenantID, spec KeySpec) (key Key, token string, err error) {
	if err := spec.validate(); err != nil {
		return Key{}, "", fmt.Errorf("create key: %w", err)
	}
	scopes := slices.Clone(spec.Scopes)
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	keyID, token := newToken()
	_, err = c.changeTenant(ctx, "create key", id, func(tx pgx.Tx, state State) (bool, error) {
		if state == Deleting {
			return false, fmt.Errorf("create key: tenant is deleting: %w", ErrConflict)
		}
		rows, err := tx.Query(ctx, insertKey, keyID, id, spec.Name, hashToken(token), scopes, spec.ExpiresAt)
		if err != nil {
			return false, err
		}
		key, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Key])
		return true, err
	})
	if err != nil {
		return Key{}, "", err
	}
	return key, token, nil
}

// hashToken is what the catalog keeps of a key.
func hashToken(token string) []byte {
	hash := sha256.Sum256([]byte(token))
	return hash[:]
}

const selectKeys = `
select ` + keyColumns + ` from api_keys where tenant = $1 order by created_at, id`

// Keys lists a tenant's keys, oldest first, revoked and expired ones too.
func (c *Catalog) Keys(ctx context.Context, id TenantID) ([]Key, error) {
	keys, err := asTenant(ctx, c, id, pgx.RowToStructByName[Key], selectKeys, id)
	return keys, wrap("list keys", err)
}

const revokeKey = `
update api_keys set revoked_at = now() where tenant = $1 and id = $2 and revoked_at is null`

const selectKeyExists = `select true from api_keys where tenant = $1 and id = $2`

// RevokeKey revokes in the catalog only; fleet.RevokeKey also raises the fence.
// Twice is no error: the second time answers the tenant's epoch as it is.
// ErrNotFound for another tenant's key.
func (c *Catalog) RevokeKey(ctx context.Context, id TenantID, keyID string) (epoch int64, err error) {
	return c.changeTenant(ctx, "revoke key", id, func(tx pgx.Tx, _ State) (bool, error) {
		tag, err := tx.Exec(ctx, revokeKey, id, keyID)
		if err != nil || tag.RowsAffected() > 0 {
			return true, err
		}
		var exists bool
		return false, tx.QueryRow(ctx, selectKeyExists, id, keyID).Scan(&exists)
	})
}
