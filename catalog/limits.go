package catalog

import (
	"fmt"
	"slices"
)

// KeyLimits are a key's own, below its tenant's: whatever it asks for must be
// within both.
type KeyLimits struct {
	AllowedModels          []string // nil: all of the tenant's
	MonthlyTokenLimit      *int64   // nil: no other than the tenant's
	ConcurrentRequestLimit *int     // nil: no other than the tenant's
}

func (l KeyLimits) check() (errs []error) {
	if l.AllowedModels != nil {
		if len(l.AllowedModels) == 0 {
			errs = append(errs, wrong("allowed_models", "empty: leave it out for all of the tenant's, or revoke the key"))
		}
		errs = append(errs, allowList(l.AllowedModels))
	}
	if l.MonthlyTokenLimit != nil {
		errs = append(errs, within("monthly_token_limit", *l.MonthlyTokenLimit, 0, maxTokens))
	}
	if l.ConcurrentRequestLimit != nil {
		errs = append(errs, within("concurrent_request_limit", *l.ConcurrentRequestLimit, 1, maxConcurrent))
	}
	return errs
}

// Allows reports whether the key may use a model by one of these names: the one
// that is asked for, and the one that it stands for.
func (l KeyLimits) Allows(names ...string) bool {
	return l.AllowedModels == nil || matchesAny(l.AllowedModels, names)
}

// Allows reports whether the tenant may use the model: an exact name, or a
// prefix that ends in an asterisk.
func (c TenantConfig) Allows(model string) bool { return matches(c.AllowedModels, model) }

// AllowsAny is Allows for a model of several names: the one that is asked for, and
// the one that it stands for.
func (c TenantConfig) AllowsAny(names ...string) bool { return matchesAny(c.AllowedModels, names) }

func matchesAny(list, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return matches(list, name) })
}

// matches reports whether a name is in a list of names and prefixes. A prefix is
// in it too, when all that it stands for is.
func matches(list []string, name string) bool {
	for _, m := range list {
		if m == name {
			return true
		}
		if n := len(m) - 1; n >= 0 && m[n] == '*' && len(name) >= n && name[:n] == m[:n] {
			return true
		}
	}
	return false
}

// Delegate is the key that this one may make when it asks for spec: models and
// expiry that aren't named are its own. It refuses, with *NotHeld, what it doesn't
// hold itself. A key with a limit of its own makes none: what two keys may use is
// twice what one may.
func (i Identity) Delegate(spec KeySpec) (KeySpec, error) {
	for _, scope := range spec.Scopes {
		if !i.Has(scope) {
			return spec, &NotHeld{"scopes", "the key that makes it doesn't hold one of them"}
		}
	}
	if i.Limits.MonthlyTokenLimit != nil {
		return spec, &NotHeld{"monthly_token_limit", "a key with a limit of its own makes no keys"}
	}
	if i.Limits.ConcurrentRequestLimit != nil {
		return spec, &NotHeld{"concurrent_request_limit", "a key with a limit of its own makes no keys"}
	}
	if own := i.Limits.AllowedModels; own != nil {
		if spec.AllowedModels == nil {
			spec.AllowedModels = slices.Clone(own)
		}
		for _, m := range spec.AllowedModels {
			if !matches(own, m) {
				return spec, &NotHeld{"allowed_models", "the key that makes it may not use one of them"}
			}
		}
	}
	if !i.Expires.IsZero() {
		if spec.ExpiresAt == nil {
			at := i.Expires
			spec.ExpiresAt = &at
		}
		if spec.ExpiresAt.After(i.Expires) {
			return spec, &NotHeld{"expires_at", "later than the key that makes it"}
		}
	}
	return spec, nil
}

// NotHeld is a refusal to give what the giver doesn't hold.
type NotHeld struct {
	Field string // by its name on the wire
	Text  string
}

func (e *NotHeld) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Text) }
