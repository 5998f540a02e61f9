package catalog

import (
	"context"
	"crypto/sha256"
	"errors"
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
	errs := []error{line("name", s.Name, maxName), line("actor", s.Actor, maxName)}
	if len(s.Scopes) == 0 {
		errs = append(errs, wrong("scopes", "none named"))
	}
	for _, scope := range s.Scopes {
		errs = append(errs, oneOf("scopes", scope, Scopes()...))
	}
	if s.ExpiresAt != nil && !s.ExpiresAt.After(time.Now()) {
		errs = append(errs, wrong("expires_at", "already past"))
	}
	own := KeyLimits{s.AllowedModels, s.MonthlyTokenLimit, s.ConcurrentRequestLimit}
	return invalid(append(errs, own.check()...)...)
}

const keyColumns = `id, name, scopes, created_at, expires_at, revoked_at,
       allowed_models, monthly_token_limit, concurrent_request_limit`

// maxKeys bounds a tenant's keys that hold: it makes them itself.
const maxKeys = 1000

const countKeys = `
select count(*) from api_keys where tenant = $1 and revoked_at is null and (expires_at is null or expires_at > now())`

const insertKey = `
insert into api_keys (id, tenant, name, hash, scopes, expires_at, allowed_models, monthly_token_limit,
       concurrent_request_limit, request_key, request_hash)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, nullif($10, ''), $11) returning ` + keyColumns

// CreateKey makes a key; the token is shown now or never, and is empty when the
// same request has made the key before. Unknown scope: ErrInvalid. A tenant that
// is being deleted gets none, nor does one that has very many: ErrConflict.
// ErrMismatch.
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
		made, again, err := replayedKey(ctx, tx, id, spec)
		if err != nil || again {
			key, token = made, ""
			return false, err
		}
		var live int
		if err := tx.QueryRow(ctx, countKeys, id).Scan(&live); err != nil {
			return false, err
		}
		if live >= maxKeys {
			return false, fmt.Errorf("create key: the tenant has %d keys, as many as it may: revoke some: %w", live, ErrConflict)
		}
		rows, err := tx.Query(ctx, insertKey, keyID, id, spec.Name, hashToken(token), scopes, spec.ExpiresAt,
			spec.AllowedModels, spec.MonthlyTokenLimit, spec.ConcurrentRequestLimit, spec.RequestKey, spec.RequestHash)
		if err != nil {
			return false, err
		}
		key, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Key])
		if err == nil && spec.Actor != "" {
			// With the key, or not at all: nobody has one that nobody wrote down.
			_, err = tx.Exec(ctx, appendAudit, spec.Actor, "key.create", id, map[string]any{"key": key.ID, "scopes": key.Scopes})
		}
		return true, err
	})
	if err != nil {
		return Key{}, "", err
	}
	return key, token, nil
}

const (
	forgetKeyRequest = `
update api_keys set request_key = null, request_hash = null
 where tenant = $1 and request_key = $2 and created_at < now() - interval '1 day'`

	selectKeyRequest = `
select id, request_hash = $3 as same from api_keys where tenant = $1 and request_key = $2`

	selectOneKey = `select ` + keyColumns + ` from api_keys where tenant = $1 and id = $2`
)

// replayedKey finds the key that the same request has made before.
func replayedKey(ctx context.Context, tx pgx.Tx, id TenantID, spec KeySpec) (key Key, again bool, err error) {
	if spec.RequestKey == "" {
		return Key{}, false, nil
	}
	if _, err := tx.Exec(ctx, forgetKeyRequest, id, spec.RequestKey); err != nil {
		return Key{}, false, err
	}
	var keyID string
	var same bool
	err = tx.QueryRow(ctx, selectKeyRequest, id, spec.RequestKey, spec.RequestHash).Scan(&keyID, &same)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Key{}, false, nil
	case err != nil:
		return Key{}, false, err
	case !same:
		return Key{}, false, fmt.Errorf("create key: %w", ErrMismatch)
	}
	rows, err := tx.Query(ctx, selectOneKey, id, keyID)
	if err != nil {
		return Key{}, false, err
	}
	key, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Key])
	return key, err == nil, err
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
