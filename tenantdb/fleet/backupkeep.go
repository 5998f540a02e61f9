package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

const (
	platformPrefix = "platform/"
	backupPrefix   = platformPrefix + "catalog/"
	backupSuffix   = ".fhc"
	backupMoment   = "20060102T150405Z"
)

func backupKey(at time.Time, seq int64) string {
	return backupPrefix + at.UTC().Format(backupMoment) + "-" + strconv.FormatInt(seq, 10) + backupSuffix
}

// parseBackupKey reads what a key tells; false for one that backupKey didn't make.
func parseBackupKey(key string) (b catalog.Backup, ok bool) {
	name, found := strings.CutPrefix(key, backupPrefix)
	moment, number, dashed := strings.Cut(strings.TrimSuffix(name, backupSuffix), "-")
	at, aerr := time.Parse(backupMoment, moment)
	seq, serr := strconv.ParseInt(number, 10, 64)
	ok = found && dashed && aerr == nil && serr == nil && backupKey(at, seq) == key
	return catalog.Backup{Key: key, Seq: seq, MadeAt: at}, ok
}

// CatalogBackups lists the backups that are in the object store, newest first,
// whatever the catalog knows of them. ErrStore.
func (f *Fleet) CatalogBackups(ctx context.Context) ([]catalog.Backup, error) {
	if f.blob == nil {
		return nil, ErrStore
	}
	list := []catalog.Backup{}
	err := f.blob.Platform().List(ctx, strings.TrimPrefix(backupPrefix, platformPrefix), func(o blob.Object) error {
		if b, ok := parseBackupKey(platformPrefix + o.Key); ok {
			b.Bytes = o.Size
			list = append(list, b)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list backups of the catalog: %w", storeError(ctx, err))
	}
	slices.SortFunc(list, newerFirst)
	return list, nil
}

func newerFirst(a, b catalog.Backup) int {
	if d := b.MadeAt.Compare(a.MadeAt); d != 0 {
		return d
	}
	return strings.Compare(b.Key, a.Key)
}

// Backups that are kept: the newest, and one for each day of some months.
const keepNewest, keepDays = 30, 90

// expired are the backups that aren't kept at a moment: all but the newest ones,
// and the newest of each of the last days, by UTC.
func expired(list []catalog.Backup, now time.Time) (old []catalog.Backup) {
	list = slices.Clone(list)
	slices.SortFunc(list, newerFirst)
	first := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1-keepDays)
	days := map[time.Time]bool{}
	for i, b := range list {
		day := b.MadeAt.UTC().Truncate(24 * time.Hour)
		ofDay := !days[day] && !day.Before(first)
		days[day] = true
		if i >= keepNewest && !ofDay {
			old = append(old, b)
		}
	}
	return old
}

// expireBackups removes what isn't kept: of the backups that the catalog has on
// record, so that another catalog's in the same bucket stay.
func (f *Fleet) expireBackups(ctx context.Context, now time.Time) error {
	// However old: one that isn't on record would be kept for ever, and with it what
	// a receipt says will go.
	if err := f.recordBackups(ctx); err != nil {
		return err
	}
	list, err := f.cat.Backups(ctx)
	if err != nil {
		return err
	}
	for _, b := range expired(list, now) {
		if err := f.blob.Platform().Delete(ctx, strings.TrimPrefix(b.Key, platformPrefix)); err != nil {
			return storeError(ctx, err)
		}
		if err := f.cat.RemoveBackup(ctx, b.Key); err != nil {
			return err
		}
	}
	return nil
}

// recordBackups records this catalog's backups that it doesn't know of: whoever
// made one was killed, or the catalog was restored from an older one.
func (f *Fleet) recordBackups(ctx context.Context) error {
	stored, err := f.CatalogBackups(ctx)
	if err != nil {
		return err
	}
	known, err := f.cat.Backups(ctx)
	if err != nil {
		return err
	}
	ours, err := f.cat.CatalogID(ctx)
	if err != nil {
		return err
	}
	for _, b := range stored {
		if slices.ContainsFunc(known, func(k catalog.Backup) bool { return k.Key == b.Key }) {
			continue
		}
		header, err := f.readBackup(ctx, b.Key, catalog.ReadDumpHeader)
		switch {
		case errors.Is(err, ErrStore):
			return err
		case errors.Is(err, catalog.ErrSealBroken):
			continue // another keyset's, or never whole: it tells nobody anything
		}
		if err == nil && header.Catalog == ours {
			err = f.cat.AddBackup(ctx, b)
		}
		if err != nil {
			f.log.WarnContext(ctx, "backup of the catalog not recorded", "key", b.Key, "reason", reason(ctx, err))
		}
	}
	return nil
}
