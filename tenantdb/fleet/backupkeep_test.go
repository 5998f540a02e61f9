package fleet_test

import (
	"fmt"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// Hourly backups of a year: the newest thirty are kept, and of each of ninety days
// the newest.
func TestExpired(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 13, 30, 0, 0, time.UTC)
	var list []catalog.Backup
	for h := range 365 * 24 {
		at := now.Add(-time.Duration(h) * time.Hour)
		list = append(list, catalog.Backup{Key: fmt.Sprintf("h%05d", h), MadeAt: at})
	}
	old := map[string]bool{}
	for _, b := range fleet.Expired(list, now) {
		old[b.Key] = true
	}
	kept, days := 0, map[string]bool{}
	for h, b := range list {
		if old[b.Key] {
			continue
		}
		kept++
		day := b.MadeAt.Format("2006-01-02")
		if h >= 30 && days[day] {
			t.Errorf("%s is kept, and %s has a newer one", b.MadeAt, day)
		}
		days[day] = true
	}
	// The thirty newest are of two days and a part of a third, each in the ninety.
	if len(days) != 90 || kept != 30+90-2 {
		t.Errorf("%d kept, of %d days", kept, len(days))
	}
	for _, few := range []int{0, 1, 30} {
		if gone := fleet.Expired(list[len(list)-few:], now); len(gone) != 0 {
			t.Errorf("of the only %d backups %d go", few, len(gone))
		}
	}
	// What is from the future is the newest.
	ahead := []catalog.Backup{{Key: "ahead", MadeAt: now.AddDate(1, 0, 0)}}
	for _, b := range fleet.Expired(append(ahead, list...), now) {
		if b.Key == "ahead" {
			t.Error("a backup that is ahead of the clock went")
		}
	}
}

func TestParseBackupKey(t *testing.T) {
	t.Parallel()
	b, ok := fleet.ParseBackupKey("platform/catalog/20261122T133000Z-42.fhc")
	if want := time.Date(2026, 11, 22, 13, 30, 0, 0, time.UTC); !ok || b.Seq != 42 || !b.MadeAt.Equal(want) {
		t.Errorf("%+v, %v", b, ok)
	}
	for _, key := range []string{
		"", "platform/catalog/", "platform/catalog/20261122T133000Z.fhc", "platform/catalog/20261122T133000Z-x.fhc",
		"platform/catalog/20261122T133000Z-42", "catalog/20261122T133000Z-42.fhc", "platform/catalog/20261322T133000Z-42.fhc",
		"platform/catalog/20261122T133000Z-042.fhc", "platform/catalog/x/20261122T133000Z-42.fhc",
	} {
		if b, ok := fleet.ParseBackupKey(key); ok {
			t.Errorf("%q is taken for %+v", key, b)
		}
	}
}
