package fleet

import (
	"context"
	"errors"
	"time"

	"freehold/catalog"
)

// interrupted are the kinds of operations whose steps end at once when somebody
// cancels them, and not only between two.
var interrupted = map[string]bool{catalog.KindBackup: true, catalog.KindExport: true, catalog.KindRestore: true}

// forgetTime bounds the removal of what a backup left.
const forgetTime = time.Minute

// undoBackup removes what a backup has made that failed for good or was cancelled. One
// that is on record is whole, and stays. A store that is away keeps no tenant busy:
// what is left there, the tenant's next backup removes.
func (f *Fleet) undoBackup(ctx context.Context, o catalog.Operation) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTime)
	defer cancel()
	switch _, err := f.cat.TenantBackup(ctx, o.TenantID, o.ID); {
	case err == nil:
		return nil
	case !errors.Is(err, catalog.ErrNotFound):
		return err
	}
	a := &act{Fleet: f, op: o}
	args, err := a.notedBackup(ctx)
	if err != nil {
		return err
	}
	if args.Notes.Key != "" && f.blob != nil {
		if err := f.dropBackupObject(ctx, o.TenantID, args.Notes.Key); err != nil {
			f.log.WarnContext(ctx, "what a backup left is not yet removed", "operation", o.ID, "tenant", o.TenantID.String(), "reason", reason(ctx, err))
		}
	}
	return f.cat.RewindSteps(ctx, o)
}
