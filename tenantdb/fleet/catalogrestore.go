package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"freehold/catalog"
)

// RestoreOptions say what RestoreCatalog restores, and for whom.
type RestoreOptions struct {
	Key   string // of the backup; empty: the newest
	Actor string // as operator_audit names them; empty: unknown
}

// Restored is what RestoreCatalog did and found.
type Restored struct {
	Backup string `json:"backup"`
	// Resumed: an earlier call had loaded it, and this one went on.
	Resumed   bool     `json:"resumed"`
	Servers   int      `json:"servers"`
	Tenants   int      `json:"tenants"`   // deleted ones left out
	Confirmed int      `json:"confirmed"` // of them, those whose database is there and knows nothing later
	Seq       int64    `json:"seq"`       // where the clock goes on
	Notes     []Notice `json:"notes"`
}

// NeedsPerson reports whether somebody has something to decide.
func (r Restored) NeedsPerson() bool {
	for _, n := range r.Notes {
		if n.Kind != noticeUnnamed {
			return true
		}
	}
	return false
}

// Notice is something that the backup doesn't agree with.
type Notice struct {
	Kind   string           `json:"kind"`
	Tenant string           `json:"tenant,omitempty"` // slug
	ID     catalog.TenantID `json:"id,omitzero"`
	Server string           `json:"server,omitempty"`
	What   string           `json:"what"`
	Fix    string           `json:"fix"`
}

// Kinds of notices.
const (
	noticeChanged     = "changed"     // the tenant's database has seen a later truth
	noticeMissing     = "missing"     // the tenant's database isn't where the backup says
	noticeUnreachable = "unreachable" // nobody could look
	noticeFound       = "found"       // a tenant's database that the backup doesn't know
	noticeUnnamed     = "unnamed"     // the same, empty and nobody's: it was ready, or of a tenant in its first seconds
	noticeOperation   = "operation"   // what was under way
	noticeOperators   = "operators"   // tokens that may have been revoked since
)

// beyond is how far the clock is set ahead of all that was found: more changes than
// there can have been in databases that nobody could look at.
const beyond = 1 << 20

// RestoreCatalog fills an empty, migrated catalog with a backup, in one
// transaction, and compares it with the servers. The clock and all epochs go above
// every fence that was found there, so that every tenant whose database is in its
// place is served; what the backup can't know is told. Killed after the loading,
// the same call goes on. Errors: catalog.Load's, ErrStore, catalog.ErrNotFound when
// there is no such backup; nothing is changed then.
func (f *Fleet) RestoreCatalog(ctx context.Context, o RestoreOptions) (Restored, error) {
	r, err := f.restoreCatalog(ctx, o)
	if err != nil {
		return r, fmt.Errorf("restore catalog: %w", err)
	}
	f.log.InfoContext(ctx, "catalog restored", "key", r.Backup, "tenants", r.Tenants, "seq", r.Seq, "notes", len(r.Notes))
	// Those made after the restored one count again for what is kept.
	if err := f.recordBackups(ctx); err != nil {
		f.log.WarnContext(ctx, "backups of the catalog not recorded", "reason", reason(ctx, err))
	}
	return r, nil
}

func (f *Fleet) restoreCatalog(ctx context.Context, o RestoreOptions) (r Restored, err error) {
	r.Notes = []Notice{}
	if f.blob == nil {
		return r, ErrStore
	}
	r.Backup, err = f.cat.Restoring(ctx)
	switch {
	case err == nil && o.Key != "" && o.Key != r.Backup:
		return r, fmt.Errorf("%s is loaded already, and only an empty catalog can be filled: %w", r.Backup, catalog.ErrConflict)
	case err == nil:
		r.Resumed = true
	case errors.Is(err, catalog.ErrNotFound):
		if r.Backup, err = f.loadBackup(ctx, o.Key); err != nil {
			return r, err
		}
	default:
		return r, err
	}
	f.dieAt("catalog-restore/loaded")
	s, err := f.survey(ctx)
	if err != nil {
		return r, err
	}
	failed, err := f.interrupted(ctx)
	if err != nil {
		return r, err
	}
	r.Servers, r.Tenants, r.Confirmed = s.servers, s.tenants, s.confirmed
	tokens, err := f.tokensBack(ctx)
	if err != nil {
		return r, err
	}
	r.Notes = slices.Concat(r.Notes, s.notes, failed, tokens)
	actor := o.Actor
	if actor == "" {
		actor = "unknown"
	}
	r.Seq, err = f.cat.EndRestore(ctx, actor, s.fence+beyond, s.doubtful, auditOf(r))
	return r, err
}

// loadBackup loads the backup of that key, or the newest.
func (f *Fleet) loadBackup(ctx context.Context, key string) (string, error) {
	if key == "" {
		list, err := f.CatalogBackups(ctx)
		if err != nil {
			return "", err
		}
		if len(list) == 0 {
			return "", fmt.Errorf("there is no backup in the object store: %w", catalog.ErrNotFound)
		}
		key = list[0].Key
	}
	_, err := f.readBackup(ctx, key, func(plain io.Reader) (catalog.DumpHeader, error) {
		return f.cat.Load(ctx, plain, key)
	})
	if err != nil {
		return key, fmt.Errorf("%s: %w", key, err)
	}
	return key, nil
}

// interrupted tells of the operations that the backup found under way.
func (f *Fleet) interrupted(ctx context.Context) ([]Notice, error) {
	list, err := f.cat.Operations(ctx, catalog.OperationFilter{State: catalog.OperationFailed, Limit: maxNotices})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return []Notice{{
		Kind: noticeOperation, What: count(len(list), "operation") + " failed, or were under way when the backup was taken",
		Fix: "freehold operation list --state failed",
	}}, nil
}

// tokensBack tells of the operators' tokens that hold again, or still: nothing
// outside the catalog knows which were revoked since the backup.
func (f *Fleet) tokensBack(ctx context.Context) ([]Notice, error) {
	list, err := f.cat.Operators(ctx)
	if err != nil {
		return nil, err
	}
	holding := 0
	for _, o := range list {
		if o.RevokedAt == nil && (o.ExpiresAt == nil || o.ExpiresAt.After(time.Now())) {
			holding++
		}
	}
	if holding == 0 {
		return nil, nil
	}
	return []Notice{{
		Kind: noticeOperators, What: count(holding, "operator") + " may call with the token of then, also when it was rotated or revoked since the backup",
		Fix: "freehold token list",
	}}, nil
}

func count(n int, what string) string {
	s := strconv.Itoa(n) + " " + what
	if n != 1 {
		s += "s"
	}
	return s
}

// maxNotices bounds what the audit keeps of each kind.
const maxNotices = 200

// auditOf is what operator_audit keeps: who is killed before the report is printed
// finds it there.
func auditOf(r Restored) map[string]any {
	notes := r.Notes
	if len(notes) > maxNotices {
		notes = notes[:maxNotices]
	}
	list := []string{}
	for _, n := range notes {
		list = append(list, n.Kind+" "+n.Server+" "+n.Tenant+" "+n.ID.String())
	}
	return map[string]any{"backup": r.Backup, "tenants": r.Tenants, "confirmed": r.Confirmed, "notes": len(r.Notes), "first_notes": list}
}
