package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet/dump"
)

// TenantRestore says what a tenant is restored from, and for whom.
type TenantRestore struct {
	// Backup is its id, catalog.BackupLatest, or an RFC 3339 moment: the newest that
	// isn't later.
	Backup string
	Actor  string // who asked
	// Lost restores although the tenant's database can't be read any more: nothing is
	// taken along from it then, and the bill is what the catalog knows.
	Lost bool
}

// restoreArgs are the arguments of a restore, as the catalog has them.
type restoreArgs struct {
	Backup string    `json:"backup,omitempty"` // its id
	Key    string    `json:"key,omitempty"`
	MadeAt time.Time `json:"made_at,omitzero"`
	Lost   bool      `json:"lost,omitempty"`
	// Revert is the kept database that comes back, instead of a backup.
	Revert string `json:"revert,omitempty"`
	KeptID string `json:"kept_id,omitempty"`
}

// fresh is the name of the database that is about to be the tenant's.
func (args restoreArgs) fresh(id catalog.TenantID) string {
	if args.Revert != "" {
		return args.Revert
	}
	return freshName(id)
}

// restorePrefix begins the names of databases that restores build. The tenant follows,
// in hexadecimal digits.
const restorePrefix = "freehold_restore_"

// restoring puts a tenant's database back to what a backup has, but for what it used,
// owes and did since. Until the databases have changed their names it can be taken
// back; from then on it goes forward only.
var restoring = []step{
	{"check", checkRestore},
	{"build", buildRestored},
	{"switch", switchRestored},
	{"serve", serveRestored},
}

// BeginRestore registers the restore of an active or suspended tenant, in place: a
// worker does it, or Do. The database that it has now is kept, closed, until
// ConfirmTenant or RevertRestore. Refused before anything changes: catalog.ErrNotFound
// without such a backup, catalog.ErrInvalid, *catalog.Busy, catalog.ErrSealBroken for a
// backup that is changed, cut short or another's, tenantdb.ErrForeign,
// catalog.ErrConflict for one that is newer than the fleet or its server, in another
// state, while an earlier restore waits to be confirmed, and where the server hasn't got
// the room; ErrStore, tenantdb.ErrUnavailable. That all of the backup is whole is looked
// at by the first step.
func (f *Fleet) BeginRestore(ctx context.Context, id catalog.TenantID, o TenantRestore) (catalog.Operation, error) {
	op, err := f.beginRestore(ctx, id, o)
	if err != nil {
		return op, fmt.Errorf("restore tenant: %w", err)
	}
	f.log.InfoContext(ctx, "restore begun", "tenant", id.String(), "operation", op.ID, "backup", o.Backup, "lost", o.Lost)
	return op, nil
}

func (f *Fleet) beginRestore(ctx context.Context, id catalog.TenantID, o TenantRestore) (op catalog.Operation, err error) {
	b, err := f.cat.TenantBackup(ctx, id, o.Backup)
	if err != nil {
		return op, err
	}
	args := restoreArgs{Backup: b.ID, Key: b.Key, MadeAt: b.MadeAt, Lost: o.Lost}
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return op, err
	}
	if err := f.mayRestore(ctx, t, args); err != nil {
		return op, err
	}
	return f.cat.BeginOperation(ctx, catalog.OperationSpec{
		Kind: catalog.KindRestore, Tenant: id, Actor: o.Actor, Steps: stepNames(restoring), Args: args,
	})
}

// Restore restores a tenant in place, here and now. When this process dies, a worker
// goes on with it within seconds. Errors: BeginRestore's, *Unfinished.
func (f *Fleet) Restore(ctx context.Context, id catalog.TenantID, o TenantRestore) (catalog.Operation, error) {
	op, err := f.BeginRestore(ctx, id, o)
	if err != nil {
		return op, err
	}
	if err := f.seeThrough(ctx, op.ID); err != nil {
		return op, fmt.Errorf("restore tenant: %w", f.unfinished(ctx, op, err))
	}
	return f.cat.Operation(ctx, op.ID)
}

// errNotDone is an operation that another worker took, and didn't end well.
var errNotDone = errors.New("another worker could not do it")

// seeThrough does an operation here, or waits for the worker who was quicker.
func (f *Fleet) seeThrough(ctx context.Context, id string) error {
	err := f.Do(ctx, id)
	if !errors.Is(err, catalog.ErrConflict) {
		return err
	}
	if o, oerr := f.cat.Operation(ctx, id); oerr != nil || o.Worker == f.worker {
		return err // it isn't about who has it
	}
	for {
		o, err := f.cat.Operation(ctx, id)
		switch {
		case err != nil:
			return err
		case o.State == catalog.OperationDone:
			return nil
		case o.State != catalog.OperationRunning:
			return fmt.Errorf("%w: %s", errNotDone, o.Error)
		}
		if err := pause(ctx, seePoll); err != nil {
			return err
		}
	}
}

const seePoll = 200 * time.Millisecond

// mayRestore refuses what can't end well, of what can be known without reading all of
// the backup.
func (f *Fleet) mayRestore(ctx context.Context, t catalog.Tenant, args restoreArgs) error {
	if t.State != catalog.Active && t.State != catalog.Suspended {
		return fmt.Errorf("it is %s: %w", t.State, catalog.ErrConflict)
	}
	waiting, err := f.unconfirmed(ctx, t.ID)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		return fmt.Errorf("it was restored before, and that waits to be confirmed or reverted: freehold tenant confirm %s: %w", t.Slug, catalog.ErrConflict)
	}
	server, err := f.cat.Server(ctx, t.Server)
	if err != nil {
		return err
	}
	if _, err := dump.Find(server.Version / versionUnit); err != nil {
		return err
	}
	known, err := f.knownVersions(ctx, t)
	if err != nil {
		return err
	}
	if err := f.fits(ctx, t.ID, args.Key, server, known); err != nil {
		if errors.Is(err, catalog.ErrSealBroken) {
			err = f.tellProof(ctx, args.Backup, brokenBackup(err))
		}
		return err
	}
	if args.Lost {
		return nil
	}
	// What can't be read can't be taken along.
	if whose, err := f.identity(ctx, t.Server, t.ID); err != nil {
		return fmt.Errorf("read its database (one that is lost is restored all the same, with --lost): %w", err)
	} else if whose != t.ID {
		return tenantdb.ErrForeign
	}
	return nil
}

// unconfirmed are the databases that a tenant keeps until its restore is confirmed.
func (f *Fleet) unconfirmed(ctx context.Context, id catalog.TenantID) ([]catalog.KeptDatabase, error) {
	list, err := f.cat.KeptDatabases(ctx, catalog.KeptFilter{Tenant: id})
	return slices.DeleteFunc(list, func(k catalog.KeptDatabase) bool {
		return k.Why != catalog.KeptRestored || k.DropAt != nil
	}), err
}

// knownVersions are the newest that a tenant's database may have: the fleet's, its own,
// and this binary's where there is no fleet.
func (f *Fleet) knownVersions(ctx context.Context, t catalog.Tenant) (catalog.Versions, error) {
	v, err := f.begins(ctx)
	return catalog.Versions{Freehold: max(v.Freehold, t.SchemaVersion), Product: max(v.Product, t.ProductVersion)}, err
}

// restorer is an act that restores its tenant.
type restorer struct {
	*act
	args restoreArgs
}

func (a *act) restorer() (*restorer, error) {
	r := &restorer{act: a}
	return r, a.args(&r.args)
}

// kept is what the tenant's database of now will be called.
func (r *restorer) kept() string { return keptName(r.tenant.ID, r.op.ID) }

// what is what the audit is told of it.
func (r *restorer) what() restoration {
	return restoration{
		actor: r.op.Actor, Operation: r.op.ID, Backup: r.args.Backup, MadeAt: r.args.MadeAt.UTC(), Lost: r.args.Lost,
		Reverted: r.args.Revert != "",
	}
}

// checkRestore reads all of the backup before anything is made.
func checkRestore(ctx context.Context, a *act) error {
	r, err := a.restorer()
	if err != nil {
		return err
	}
	if r.args.Revert != "" {
		return r.checkKept(ctx)
	}
	if err := a.mayRestore(ctx, a.tenant, r.args); err != nil {
		return err
	}
	return a.wholeBackup(ctx, a.tenant.ID, r.args.Backup, r.args.Key)
}

// buildRestored makes the database that the tenant will have, and compares it with
// what the backup says of each table. Half of one from before goes first.
func buildRestored(ctx context.Context, a *act) error {
	r, err := a.restorer()
	if err != nil || r.args.Revert != "" {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	like, err := a.localeOf(ctx, a.tenant)
	if err != nil && !r.args.Lost { // of a lost one it can't be asked: the server's then
		return err
	}
	name := r.args.fresh(a.tenant.ID)
	if err := a.newDatabase(ctx, a.conn, name, like); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	a.at("build:created")
	err = a.fillFrom(ctx, a.tenant.Server, name, a.tenant.ID, r.args.Key)
	if err := a.tellProof(ctx, r.args.Backup, err); err != nil {
		return err
	}
	a.at("build:loaded")
	return nil
}

// checkKept looks whether a kept database is still what it was kept as.
func (r *restorer) checkKept(ctx context.Context) error {
	if err := r.lock(ctx); err != nil {
		return err
	}
	ours, err := r.mark(ctx)
	if err != nil {
		return err
	}
	mark, there, err := markOf(ctx, r.conn, thingDatabase, r.args.Revert)
	switch {
	case err != nil:
		return err
	case !there:
		return fmt.Errorf("database %s is not on server %s any more: %w", r.args.Revert, r.tenant.Server, catalog.ErrConflict)
	case mark != ours:
		return fmt.Errorf("database %s doesn't bear this catalog's mark: %w", r.args.Revert, catalog.ErrConflict)
	}
	return nil
}
