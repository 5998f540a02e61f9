package fleet_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// What was suspended since the backup isn't served again by itself, and that is
// told with the two ways out; so is a role that is gone, and that operators' tokens
// are as they were.
func TestRestoreCatalog_tellsWhoIsNotServed(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	halted, _ := b.onboard("halted")
	roleless, _ := b.onboard("roleless")
	_, _, err := b.cat.CreateOperator(t.Context(), "ops", catalog.RoleOwner, nil)
	b.ok(err)
	_, err = b.fleet.BackupCatalog(t.Context())
	b.ok(err)
	b.ok(b.fleet.Suspend(t.Context(), halted.ID))
	_, err = b.cat.RevokeOperator(t.Context(), "ops")
	b.ok(err)
	_, err = b.super("postgres").Exec(t.Context(), "revoke all on database "+roleless.Database+" from "+roleless.Role+"; drop role "+roleless.Role)
	b.ok(err)

	to := b.anew(store)
	r, err := to.fleet.RestoreCatalog(t.Context(), fleet.RestoreOptions{})
	b.ok(err)
	if n := notice(r, halted.ID); n.Kind != "changed" || !strings.Contains(n.What, "log in") || !strings.Contains(n.Fix, "freehold tenant resume halted") {
		t.Errorf("halted: told %+v", n)
	}
	if n := notice(r, roleless.ID); n.Kind != "missing" || !strings.Contains(n.What, "role") {
		t.Errorf("roleless: told %+v", n)
	}
	told := false
	for _, n := range r.Notes {
		told = told || n.Kind == "operators" && strings.HasPrefix(n.What, "1 operator ")
	}
	if !told || r.Confirmed != 0 {
		t.Errorf("restored %+v", r)
	}
	if err := to.served(halted.ID); sqlstate(err) != "28000" {
		t.Errorf("halted is served: %v", err)
	}
	b.ok(to.fleet.Resume(t.Context(), halted.ID))
	b.ok(to.served(halted.ID))
}

// A backup that was never recorded, however long ago, goes in its time.
func TestBackupCatalog_expiresWhatWasNeverRecorded(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	const key = "platform/catalog/20200101T000000Z-1.fhc"
	snapshot, err := b.cat.Snapshot(t.Context())
	b.ok(err)
	defer snapshot.Close(t.Context())
	var object bytes.Buffer
	sealed, err := b.cat.SealStream(&object, "object:"+key)
	b.ok(err)
	b.ok(snapshot.Dump(t.Context(), sealed))
	b.ok(sealed.Close())
	b.ok(store.Platform().Put(t.Context(), strings.TrimPrefix(key, "platform/"), &object))
	for i := range 30 {
		at := time.Now().Add(-time.Duration(i) * time.Hour)
		b.ok(b.cat.AddBackup(t.Context(), catalog.Backup{Key: "newer" + at.Format(time.RFC3339), MadeAt: at}))
	}
	b.ok(b.fleet.KeepCatalogBackups(t.Context()))
	list, err := b.fleet.CatalogBackups(t.Context())
	b.ok(err)
	if len(list) != 1 || list[0].Key == key {
		t.Errorf("the store has %+v", list)
	}
}
