package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet/dump"
)

// BackupOptions say how a tenant is backed up.
type BackupOptions struct {
	Actor string // who asked
	Prove bool   // restore it on trial afterwards
}

// BeginBackup has a worker back a tenant up. *catalog.Busy while it is busy with
// another operation, catalog.ErrConflict for one that is neither active nor suspended,
// catalog.ErrNotFound, ErrStore when there is no object store.
func (f *Fleet) BeginBackup(ctx context.Context, id catalog.TenantID, o BackupOptions) (catalog.Operation, error) {
	return f.beginBackup(ctx, id, o, false, catalog.Taker{})
}

// Backup backs a tenant up here and now: its database as of one moment, and which
// objects it has, sealed, in the object store under the tenant's prefix. Nothing of
// the tenant is locked but what alters or drops its tables. Errors are BeginBackup's,
// and those of the step that failed; the operation, as it is then, is then any
// worker's to go on with, or a person's.
func (f *Fleet) Backup(ctx context.Context, id catalog.TenantID, o BackupOptions) (catalog.Operation, error) {
	op, err := f.beginBackup(ctx, id, o, false, f.taker())
	if err != nil {
		return op, err
	}
	err = f.do(ctx, op)
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout) // also when ctx is over
	defer cancel()
	if now, rerr := f.cat.Operation(rctx, op.ID); rerr == nil {
		op = now
	}
	return op, err
}

func (f *Fleet) beginBackup(ctx context.Context, id catalog.TenantID, o BackupOptions, scheduled bool, by catalog.Taker) (catalog.Operation, error) {
	if f.blob == nil {
		return catalog.Operation{}, fmt.Errorf("%w: none is configured", ErrStore)
	}
	return f.cat.BeginBackup(ctx, catalog.OperationSpec{
		Tenant: id, Actor: o.Actor, Args: backupArgs{Scheduled: scheduled, Prove: o.Prove}, Steps: stepNames(backingUp),
	}, by)
}

// backupArgs are the arguments of a backup's operation.
type backupArgs struct {
	Scheduled bool        `json:"scheduled,omitempty"`
	Prove     bool        `json:"prove,omitempty"`
	Notes     backupNotes `json:"notes,omitzero"`
}

// backupNotes are what its steps have noted.
type backupNotes struct {
	Key    string        `json:"key"`    // of the object that was begun last, under the tenant's prefix
	Backup *storedBackup `json:"backup"` // it is there
}

// storedBackup is a backup that is in the store.
type storedBackup struct {
	Key           string    `json:"key"`
	MadeAt        time.Time `json:"made_at"`
	Bytes         int64     `json:"bytes"`
	Objects       int64     `json:"objects"`
	Schema        int64     `json:"schema"`
	Product       int64     `json:"product"`
	ServerVersion int       `json:"server_version"`
}

func (m storedBackup) of(id catalog.TenantID, scheduled bool) catalog.TenantBackup {
	return catalog.TenantBackup{
		TenantID: id, Key: tenantPrefix(id) + m.Key, MadeAt: m.MadeAt, Bytes: m.Bytes, Objects: m.Objects,
		SchemaVersion: m.Schema, ProductVersion: m.Product, ServerVersion: m.ServerVersion, Scheduled: scheduled,
	}
}

// backingUp backs a tenant up. What is in the store and not on record is another
// try's, which a later step, or the next backup, records or removes.
var backingUp = []step{
	{"dump", dumpTenant},
	{"record", recordTenantBackup},
	{"expire", expireAfterBackup},
	{"prove", proveNewBackup},
}

// errAgain marks what passes by itself, so that another try may do without a person.
var errAgain = errors.New("not now")

// notedBackup reads the operation's arguments as they are now.
func (a *act) notedBackup(ctx context.Context) (args backupArgs, err error) {
	if a.op, err = a.reread(ctx); err != nil {
		return args, err
	}
	return args, a.args(&args)
}

// reread is the operation with what was noted since it was taken.
func (a *act) reread(ctx context.Context) (catalog.Operation, error) {
	now, err := a.cat.Operation(ctx, a.op.ID)
	if err != nil {
		return a.op, err
	}
	o := a.op // whose token is this worker's
	o.Args = now.Args
	return o, nil
}

func dumpTenant(ctx context.Context, a *act) error {
	if a.blob == nil {
		return fmt.Errorf("%w: none is configured", ErrStore)
	}
	switch a.tenant.State {
	case catalog.Active, catalog.Suspended:
	case catalog.Moving:
		return fmt.Errorf("tenant is moving: %w", errAgain)
	default:
		return fmt.Errorf("tenant is %s: %w", a.tenant.State, catalog.ErrConflict)
	}
	args, err := a.notedBackup(ctx)
	if err != nil {
		return err
	}
	if args.Notes.Key != "" { // a try before this one was cut short
		if err := a.dropBackupObject(ctx, a.tenant.ID, args.Notes.Key); err != nil {
			return err
		}
	}
	s, err := a.snapshot(ctx, a.tenant, a.op.ID, args.Scheduled)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	key := tenantBackupKey(s.header.MadeAt, a.op.ID)
	if err := a.cat.NoteOperation(ctx, a.op, "key", key); err != nil {
		return err
	}
	a.at("dump:noted")
	made, err := a.writeTenantBackup(ctx, key, s)
	if errors.Is(err, dump.ErrFailed) {
		err = fmt.Errorf("%w: %w", errAgain, err) // a lock, or a server that went away
	}
	if err != nil {
		return err
	}
	a.at("dump:stored")
	return a.cat.NoteOperation(ctx, a.op, "backup", made)
}

// writeTenantBackup streams a snapshot into an object, while its tables are summed
// beside that.
func (f *Fleet) writeTenantBackup(ctx context.Context, key string, s *tenantSnapshot) (storedBackup, error) {
	var end backupEnd
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type summed struct {
		tables []BackupTable
		err    error
	}
	ready := make(chan summed, 1)
	go func() {
		tables, err := s.sums(ctx)
		if err != nil {
			cancel(err) // the rest would be for nothing
		}
		ready <- summed{tables, err}
	}()
	taken := false
	sums := func() ([]BackupTable, error) {
		taken = true
		got := <-ready
		return got.tables, got.err
	}
	whole := tenantPrefix(s.tenant.ID) + key
	bytes, err := putStream(ctx, f.blob.Tenant(s.tenant.ID), key, func(ctx context.Context, w io.Writer) (err error) {
		end, err = f.sealTenant(ctx, w, whole, s, sums)
		return err
	})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
	}
	if !taken {
		<-ready // it has the snapshot's connection
	}
	if err != nil {
		return storedBackup{}, err
	}
	h := s.header
	return storedBackup{
		Key: key, MadeAt: h.MadeAt, Bytes: bytes, Objects: end.Objects,
		Schema: h.Schema, Product: h.Product, ServerVersion: h.ServerVersion,
	}, nil
}

// dropBackupObject removes a backup's object and what was ever uploaded of it.
func (f *Fleet) dropBackupObject(ctx context.Context, id catalog.TenantID, key string) error {
	objects := f.blob.Tenant(id)
	err := objects.AbortUploads(ctx, key) // one that is finished meanwhile is an object
	if err == nil {
		err = objects.Delete(ctx, key)
	}
	return storeError(ctx, err)
}

func recordTenantBackup(ctx context.Context, a *act) error {
	args, err := a.notedBackup(ctx)
	if err != nil {
		return err
	}
	if args.Notes.Backup == nil {
		return errors.New("what was backed up wasn't noted")
	}
	return a.cat.AddTenantBackup(ctx, a.op, args.Notes.Backup.of(a.tenant.ID, args.Scheduled))
}

func expireAfterBackup(ctx context.Context, a *act) error {
	if a.blob == nil {
		return fmt.Errorf("%w: none is configured", ErrStore)
	}
	if err := a.recallBackups(ctx, a.tenant.ID); err != nil {
		return err
	}
	return a.expireTenantBackups(ctx, a.tenant.ID)
}

func proveNewBackup(ctx context.Context, a *act) error {
	args, err := a.notedBackup(ctx)
	if err != nil || !args.Prove {
		return err
	}
	b, err := a.cat.TenantBackup(ctx, a.tenant.ID, a.op.ID)
	if err != nil {
		return err
	}
	return a.ProveBackup(ctx, b)
}

// underPrefix is a backup's key under its tenant's prefix.
func underPrefix(id catalog.TenantID, key string) string {
	return strings.TrimPrefix(key, tenantPrefix(id))
}
