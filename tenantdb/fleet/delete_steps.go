package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// deletion destroys a tenant. Each step looks at what is left, and believes what
// it sees and not that a command succeeded.
var deletion = []step{
	{"sessions", deleting(endAllSessions)},
	{"bill", deleting(rollUpLast)},
	{"database", deleting(destroyDatabase)},
	{"kept", deleting(destroyKept)},
	{"role", deleting(destroyRole)},
	{"objects", deleting(dropObjects)},
	{"backups", deleting(verifyBackups)},
	{"keys", deleting(eraseAccess)},
	{"secrets", deleting(erasePerson)},
	{"receipt", deleting(writeReceipt)},
	{"deleted", markDeleted},
}

// Things that a receipt lists as destroyed.
const (
	whatSessions = "sessions"
	whatDatabase = "database"
	whatKept     = "kept_databases" // that it had left
	whatRole     = "role"
	whatObjects  = "objects"
	whatBackups  = "backups"
	whatKeys     = "api_keys"
	whatConfig   = "configuration"
	whatMail     = "mail"
	whatSecret   = "secret"
	whatPerson   = "personal_data"
)

// Destroyed is a copy that is gone: what there was of it when its turn came, and
// when it was looked for and not found.
type Destroyed struct {
	What       string    `json:"what"`
	Name       string    `json:"name"`
	Count      int64     `json:"count"`
	Bytes      int64     `json:"bytes"`
	VerifiedAt time.Time `json:"verified_at,omitzero"`
}

// deleting makes a step that is for tenants that are being deleted, and none other.
func deleting(run func(context.Context, *act) error) func(context.Context, *act) error {
	return func(ctx context.Context, a *act) error {
		if a.tenant.State != catalog.Deleting {
			return fmt.Errorf("tenant is %s: %w", a.tenant.State, catalog.ErrConflict)
		}
		return run(ctx, a)
	}
}

// found notes what there is of a thing before it goes, unless a run before this one
// has.
func (a *act) found(ctx context.Context, d Destroyed) error {
	known, err := a.cat.Deletion(ctx, a.op.ID)
	if err != nil {
		return err
	}
	if _, noted := known.Notes[d.What]; noted {
		return nil
	}
	return a.cat.NoteOperation(ctx, a.op, d.What, d)
}

// gone notes that things were looked for and are not there.
func (a *act) gone(ctx context.Context, things ...string) error {
	known, err := a.cat.Deletion(ctx, a.op.ID)
	if err != nil {
		return err
	}
	for _, what := range things {
		d := Destroyed{What: what}
		if note, noted := known.Notes[what]; noted {
			if err := json.Unmarshal(note, &d); err != nil {
				return fmt.Errorf("read what was noted of %s: not as it was written", what)
			}
		}
		d.VerifiedAt = time.Now().UTC().Truncate(time.Millisecond)
		if err := a.cat.NoteOperation(ctx, a.op, what, d); err != nil {
			return err
		}
	}
	return nil
}

func endAllSessions(ctx context.Context, a *act) error {
	if err := a.lock(ctx); err != nil {
		return err
	}
	n, err := sessions(ctx, a.conn, a.tenant.Role)
	if err != nil {
		return err
	}
	if err := a.found(ctx, Destroyed{What: whatSessions, Name: a.tenant.Role, Count: int64(n)}); err != nil {
		return err
	}
	if err := a.stop(ctx, a.tenant.ID, a.op.ID); err != nil {
		return err
	}
	return a.gone(ctx, whatSessions)
}

func rollUpLast(ctx context.Context, a *act) error {
	d, err := a.cat.Deletion(ctx, a.op.ID)
	if err != nil || d.Half { // it has served nobody
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	// Somebody may have dropped it; one that can't be read is kept until it can.
	there, err := exists(ctx, a.conn, databaseExists, a.tenant.ID)
	if err != nil || !there {
		return err
	}
	whose, err := a.identity(ctx, a.tenant.Server, a.tenant.ID)
	if err == nil && whose != a.tenant.ID {
		err = fmt.Errorf("database %s: %w", a.tenant.Database, tenantdb.ErrForeign)
	}
	if err != nil {
		return err
	}
	if err := a.catchUp(ctx, a.tenant); err != nil {
		return err
	}
	return a.rollUpAll(ctx, a.tenant)
}

const databaseSize = `select pg_database_size($1)`

func destroyDatabase(ctx context.Context, a *act) error {
	if err := a.lock(ctx); err != nil {
		return err
	}
	d := Destroyed{What: whatDatabase, Name: a.tenant.Database}
	there, err := exists(ctx, a.conn, databaseExists, a.tenant.ID)
	if err != nil {
		return err
	}
	if there {
		d.Count = 1
		if err := a.conn.QueryRow(ctx, databaseSize, d.Name).Scan(&d.Bytes); err != nil {
			return translate(ctx, err)
		}
	}
	if err := a.found(ctx, d); err != nil {
		return err
	}
	if err := a.dropDatabase(ctx, a.conn, a.tenant.Server, a.tenant.ID); err != nil {
		return err
	}
	return a.gone(ctx, whatDatabase)
}

// destroyKept drops the databases that the tenant has left, on whatever servers.
func destroyKept(ctx context.Context, a *act) error {
	list, err := a.cat.KeptDatabases(ctx, catalog.KeptFilter{Tenant: a.tenant.ID})
	if err != nil {
		return err
	}
	if err := a.found(ctx, Destroyed{What: whatKept, Name: a.tenant.Database, Count: int64(len(list))}); err != nil {
		return err
	}
	if err := a.dropAllKept(ctx, a.tenant.ID); err != nil {
		return err
	}
	if err := a.dropBuilt(ctx); err != nil {
		return err
	}
	return a.gone(ctx, whatKept)
}

func destroyRole(ctx context.Context, a *act) error {
	if err := a.lock(ctx); err != nil {
		return err
	}
	d := Destroyed{What: whatRole, Name: a.tenant.Role}
	there, err := exists(ctx, a.conn, roleExists, a.tenant.ID)
	if err != nil {
		return err
	}
	if there {
		d.Count = 1
	}
	if err := a.found(ctx, d); err != nil {
		return err
	}
	err = a.dropRole(ctx, a.conn, a.tenant.ID)
	if state(err) == stateDependent {
		err = a.stillNeeded(ctx, err)
	}
	if err != nil {
		return err
	}
	return a.gone(ctx, whatRole)
}

// stateDependent is a role that something still refers to.
const stateDependent = "2BP01"

// stillNeeded is what keeps a role from going: its database, which had another name
// when it was looked for. Once it has its own again, it goes too.
func (a *act) stillNeeded(ctx context.Context, err error) error {
	there, derr := exists(ctx, a.conn, databaseExists, a.tenant.ID)
	if derr != nil {
		return derr
	}
	if !there {
		return fmt.Errorf("a database that was renamed, or is another's, has grants for it: name it %s again, or revoke them: %w", a.tenant.Database, err)
	}
	// What was noted of the database was that there is none.
	if err := a.cat.NoteOperation(ctx, a.op, whatDatabase, Destroyed{What: whatDatabase, Name: a.tenant.Database, Count: 1}); err != nil {
		return err
	}
	if err := a.dropDatabase(ctx, a.conn, a.tenant.Server, a.tenant.ID); err != nil {
		return err
	}
	if err := a.gone(ctx, whatDatabase); err != nil {
		return err
	}
	return a.dropRole(ctx, a.conn, a.tenant.ID)
}

// backupsPrefix is where a tenant's own backups lie, under its prefix.
const backupsPrefix = "backups/"

func dropObjects(ctx context.Context, a *act) error {
	if a.blob == nil {
		return fmt.Errorf("%w: none is configured", ErrStore)
	}
	objects := a.blob.Tenant(a.tenant.ID)
	all, err := objects.Total(ctx, "")
	if err != nil {
		return storeError(ctx, err)
	}
	backups, err := objects.Total(ctx, backupsPrefix)
	if err != nil {
		return storeError(ctx, err)
	}
	prefix := "tenants/" + a.tenant.ID.String() + "/"
	for _, d := range []Destroyed{
		{What: whatObjects, Name: prefix, Count: all.Objects - backups.Objects, Bytes: all.Bytes - backups.Bytes},
		{What: whatBackups, Name: prefix + backupsPrefix, Count: backups.Objects, Bytes: backups.Bytes},
	} {
		if err := a.found(ctx, d); err != nil {
			return err
		}
	}
	if err := a.blob.Drop(ctx, a.tenant.ID); err != nil {
		return storeError(ctx, err)
	}
	if err := nothingUnder(ctx, objects, ""); err != nil {
		return err
	}
	return a.gone(ctx, whatObjects)
}

func verifyBackups(ctx context.Context, a *act) error {
	if a.blob == nil {
		return fmt.Errorf("%w: none is configured", ErrStore)
	}
	if err := nothingUnder(ctx, a.blob.Tenant(a.tenant.ID), backupsPrefix); err != nil {
		return err
	}
	if err := a.cat.ForgetCopies(ctx, a.tenant.ID); err != nil {
		return err
	}
	return a.gone(ctx, whatBackups)
}

// dropLate empties the prefix once more, now that the tenant is gone everywhere else:
// what a node could not settle it may have put there meanwhile.
func dropLate(ctx context.Context, a *act) error {
	if a.blob == nil {
		return fmt.Errorf("%w: none is configured", ErrStore)
	}
	objects := a.blob.Tenant(a.tenant.ID)
	late, err := objects.Total(ctx, "")
	if err != nil {
		return storeError(ctx, err)
	}
	if late.Objects == 0 {
		return nil
	}
	known, err := a.cat.Deletion(ctx, a.op.ID)
	if err != nil {
		return err
	}
	var d Destroyed
	if err := json.Unmarshal(known.Notes[whatObjects], &d); err != nil {
		return errors.New("read what was noted of objects: not as it was written")
	}
	d.Count += late.Objects
	d.Bytes += late.Bytes
	if err := a.cat.NoteOperation(ctx, a.op, whatObjects, d); err != nil {
		return err
	}
	if err := a.blob.Drop(ctx, a.tenant.ID); err != nil {
		return storeError(ctx, err)
	}
	if err := nothingUnder(ctx, objects, ""); err != nil {
		return err
	}
	return a.gone(ctx, whatObjects)
}

func nothingUnder(ctx context.Context, objects *blob.Objects, prefix string) error {
	left, err := objects.Total(ctx, prefix)
	if err != nil {
		return storeError(ctx, err)
	}
	if left.Objects > 0 {
		return fmt.Errorf("%w: it still lists %d objects", ErrStore, left.Objects)
	}
	return nil
}

func eraseAccess(ctx context.Context, a *act) error {
	access, err := a.cat.Access(ctx, a.tenant.ID)
	if err != nil {
		return err
	}
	for _, d := range []Destroyed{
		{What: whatKeys, Name: a.tenant.Slug, Count: access.Keys},
		{What: whatConfig, Name: a.tenant.Slug, Count: access.Configurations},
		{What: whatMail, Name: a.tenant.Slug, Count: access.Mails},
	} {
		if err := a.found(ctx, d); err != nil {
			return err
		}
	}
	if err := a.cat.EraseAccess(ctx, a.tenant.ID); err != nil {
		return err
	}
	if access, err = a.cat.Access(ctx, a.tenant.ID); err != nil {
		return err
	}
	if access != (catalog.Access{}) {
		return fmt.Errorf("%d keys, %d configurations and %d mails are still there", access.Keys, access.Configurations, access.Mails)
	}
	return a.gone(ctx, whatKeys, whatConfig, whatMail)
}

func erasePerson(ctx context.Context, a *act) error {
	for _, d := range []Destroyed{
		{What: whatSecret, Name: a.tenant.Role, Count: 1}, {What: whatPerson, Name: "name, e-mail, labels", Count: 1},
	} {
		if err := a.found(ctx, d); err != nil {
			return err
		}
	}
	if err := a.cat.ErasePerson(ctx, a.tenant.ID); err != nil {
		return err
	}
	blank, err := a.cat.Erased(ctx, a.tenant.ID)
	if err != nil {
		return err
	}
	if !blank {
		return errors.New("the catalog still has the tenant's secret, name or labels")
	}
	return a.gone(ctx, whatSecret, whatPerson)
}

func markDeleted(ctx context.Context, a *act) error {
	_, err := a.cat.SetState(ctx, a.tenant.ID, catalog.Deleted, catalog.Deleting)
	if errors.Is(err, catalog.ErrNotFound) { // a run before this one did it
		if t, terr := a.cat.Tenant(ctx, a.tenant.ID); terr != nil || t.State == catalog.Deleted {
			err = terr
		}
	}
	return err
}
