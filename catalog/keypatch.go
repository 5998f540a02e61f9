package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
)

// Change is what a patch does to a value that may be absent: nothing, unless Set;
// else To is the new value, and nil takes it away. In JSON it is the value or null.
type Change[T any] struct {
	Set bool
	To  *T
}

// UnmarshalJSON reads a value, or null.
func (c *Change[T]) UnmarshalJSON(text []byte) error {
	*c = Change[T]{Set: true}
	return json.Unmarshal(text, &c.To)
}

// JSONType is what stands for it in JSON.
func (Change[T]) JSONType() reflect.Type { return reflect.TypeFor[*T]() }

// KeyPatch changes what is set of a key's name, models and limits.
type KeyPatch struct {
	Name                   *string          `json:"name,omitempty"`
	AllowedModels          Change[[]string] `json:"allowed_models,omitzero" doc:"Null: all that the tenant may use."`
	MonthlyTokenLimit      Change[int64]    `json:"monthly_token_limit,omitzero" doc:"Null: no other than the tenant's."`
	ConcurrentRequestLimit Change[int]      `json:"concurrent_request_limit,omitzero" doc:"Null: no other than the tenant's."`
}

// Names lists the fields that the patch sets, by their names on the wire.
func (p KeyPatch) Names() []string {
	var names []string
	for _, f := range []struct {
		set  bool
		name string
	}{
		{p.Name != nil, "name"},
		{p.AllowedModels.Set, "allowed_models"},
		{p.MonthlyTokenLimit.Set, "monthly_token_limit"},
		{p.ConcurrentRequestLimit.Set, "concurrent_request_limit"},
	} {
		if f.set {
			names = append(names, f.name)
		}
	}
	return names
}

func (p KeyPatch) validate() error {
	var errs []error
	if p.Name != nil {
		errs = append(errs, line("name", *p.Name, maxName))
	}
	own := KeyLimits{given(p.AllowedModels.To), p.MonthlyTokenLimit.To, p.ConcurrentRequestLimit.To}
	return invalid(append(errs, own.check()...)...)
}

const patchKey = `
update api_keys set
       name                     = coalesce($3, name),
       allowed_models           = case when $4 then $5 else allowed_models end,
       monthly_token_limit      = case when $6 then $7 else monthly_token_limit end,
       concurrent_request_limit = case when $8 then $9 else concurrent_request_limit end
 where tenant = $1 and id = $2
returning ` + keyColumns

// PatchKey changes the catalog only; fleet.PatchKey also raises the fence. It
// returns the whole key and the tenant's epoch. A patch of nothing changes nothing.
// ErrNotFound for another tenant's key, ErrConflict for one that is revoked.
func (c *Catalog) PatchKey(ctx context.Context, id TenantID, keyID string, p KeyPatch) (key Key, epoch int64, err error) {
	if err := p.validate(); err != nil {
		return Key{}, 0, fmt.Errorf("change key: %w", err)
	}
	epoch, err = c.changeTenant(ctx, "change key", id, func(tx pgx.Tx, _ State) (bool, error) {
		rows, err := tx.Query(ctx, patchKey, id, keyID, p.Name, p.AllowedModels.Set, given(p.AllowedModels.To),
			p.MonthlyTokenLimit.Set, p.MonthlyTokenLimit.To, p.ConcurrentRequestLimit.Set, p.ConcurrentRequestLimit.To)
		if err != nil {
			return false, err
		}
		key, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Key])
		if err == nil && key.RevokedAt != nil {
			err = fmt.Errorf("change key: it is revoked: %w", ErrConflict)
		}
		return len(p.Names()) > 0, err
	})
	if err != nil {
		return Key{}, 0, err
	}
	return key, epoch, nil
}
