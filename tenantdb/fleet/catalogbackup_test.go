package fleet_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// Old backups go, another catalog's stay, and one that nobody got round to
// recording is recorded.
func TestBackupCatalog_keeps(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	platform := store.Platform()
	old := catalog.Backup{Key: "platform/catalog/20200101T000000Z-1.fhc", MadeAt: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	foreign := "platform/catalog/20200101T000000Z-2.fhc"
	for _, key := range []string{old.Key, foreign} {
		b.ok(platform.Put(t.Context(), strings.TrimPrefix(key, "platform/"), strings.NewReader("text")))
	}
	b.ok(b.cat.AddBackup(t.Context(), old))
	for i := range 30 {
		at := time.Now().Add(-time.Duration(i) * time.Hour)
		b.ok(b.cat.AddBackup(t.Context(), catalog.Backup{Key: "newer" + at.Format(time.RFC3339), MadeAt: at}))
	}
	lost, err := b.fleet.BackupCatalog(t.Context())
	b.ok(err)
	b.ok(b.cat.RemoveBackup(t.Context(), lost.Key)) // as if it had been killed before recording it
	_, err = b.cat.AddEngine(t.Context(), catalog.EngineSpec{Name: "later", Kind: "builtin"})
	b.ok(err)
	b.ok(b.fleet.KeepCatalogBackups(t.Context()))
	stored, err := b.fleet.CatalogBackups(t.Context())
	b.ok(err)
	have := map[string]bool{}
	for _, s := range stored {
		have[s.Key] = true
	}
	if len(stored) != 3 || have[old.Key] || !have[foreign] || !have[lost.Key] || stored[0].MadeAt.Before(lost.MadeAt.Truncate(time.Second)) {
		t.Errorf("the store has %v", have)
	}
	recorded, err := b.cat.Backups(t.Context())
	b.ok(err)
	known := map[string]bool{}
	for _, r := range recorded {
		known[r.Key] = true
	}
	if known[old.Key] || known[foreign] || !known[lost.Key] {
		t.Errorf("recorded are %v", known)
	}
}

// A store that is away fails the backup, which is told; an empty catalog has none.
func TestBackupCatalog_fails(t *testing.T) {
	t.Parallel()
	b, store := stored(t)
	empty := b.anew(store)
	if _, err := empty.fleet.BackupCatalog(t.Context()); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("an empty catalog: %v", err)
	}
	without := b.newFleet(fleet.Config{})
	if err := without.KeepCatalogBackups(t.Context()); !errors.Is(err, fleet.ErrStore) {
		t.Errorf("without a store: %v", err)
	}
	b.ok(empty.fleet.KeepCatalogBackups(t.Context()))
	b.ok(b.fleet.KeepCatalogBackups(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.fleet.BackupCatalog(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
