package tenantdb_test

import (
	"bytes"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"freehold/tenantdb"
)

func (b *tuning) files() {
	ctx := b.Context()
	f := b.uploading()
	_, err := b.db.FileByID(ctx, f.ID)
	b.is(err, tenantdb.ErrNotFound)
	b.is(b.db.RemoveFile(ctx, alice, f.ID), tenantdb.ErrNotFound)

	// What came with the bytes is the truth.
	f.Purpose, f.Name, f.Bytes, f.Sum = tenantdb.PurposeUserData, "notes.txt", 12, bytes.Repeat([]byte{1}, 32)
	expires := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	f.ExpiresAt = &expires
	for range 2 { // its answer was lost
		got, err := b.db.EndFile(ctx, alice, f, noLimit)
		b.ok(err)
		if got.State != tenantdb.FileProcessed || got.Purpose != f.Purpose || got.Name != f.Name || got.Bytes != 12 || !bytes.Equal(got.Sum, f.Sum) ||
			got.APIKey != "alice" || time.Since(got.CreatedAt) > time.Minute || got.ExpiresAt == nil || !got.ExpiresAt.Equal(expires) {
			b.Errorf("%+v", got)
		}
	}
	b.told("file-"+f.ID.String(), `key:alice file.create req_a {"purpose" : "user_data", "bytes" : 12}`)
	other := f
	other.Sum = bytes.Repeat([]byte{2}, 32)
	_, err = b.db.EndFile(ctx, alice, other, noLimit)
	b.is(err, tenantdb.ErrNotFound)
	b.is(b.db.BeginFile(ctx, f), tenantdb.ErrInvalid) // it is a file by now
	b.is(b.db.BeginFile(ctx, tenantdb.File{ID: uuid.New(), Purpose: f.Purpose}), tenantdb.ErrInvalid)
	b.is(b.db.BeginFile(ctx, tenantdb.File{ID: uuid.Must(uuid.NewV7()), Purpose: "evals"}), tenantdb.ErrInvalid)
	b.ok(b.db.DropFile(ctx, f.ID)) // what is a file stays
	got, err := b.db.FileByID(ctx, f.ID)
	b.ok(err)
	if got.Name != "notes.txt" {
		b.Errorf("%+v", got)
	}

	silent := alice
	silent.Audit = false
	b.ok(b.db.RemoveFile(ctx, alice, f.ID))
	b.is(b.db.RemoveFile(ctx, alice, f.ID), tenantdb.ErrNotFound)
	_, err = b.db.FileByID(ctx, f.ID)
	b.is(err, tenantdb.ErrNotFound)
	b.told("file-"+f.ID.String(), `key:alice file.create req_a {"purpose" : "user_data", "bytes" : 12}`,
		`key:alice file.delete req_a {"purpose" : "user_data"}`)
	taken, err := b.db.StoredBytes(ctx)
	b.ok(err)
	for range 2 {
		b.ok(b.db.DropFile(ctx, f.ID))
	}
	if left, err := b.db.StoredBytes(ctx); err != nil || left != taken-12 {
		b.Errorf("%d of %d bytes, %v", left, taken, err)
	}
	quiet := b.uploading()
	quiet.Sum = f.Sum
	_, err = b.db.EndFile(ctx, silent, quiet, noLimit)
	b.ok(err)
	b.told("file-" + quiet.ID.String())
	b.ok(b.db.RemoveFile(ctx, silent, quiet.ID))
	b.told("file-" + quiet.ID.String())

	// Lists, in both directions.
	var ids []uuid.UUID
	for range 3 {
		ids = append(ids, b.file().ID)
	}
	page := func(want tenantdb.FileFilter, ids ...uuid.UUID) {
		b.Helper()
		list, err := b.db.Files(ctx, want)
		b.ok(err)
		for i, f := range list {
			if i >= len(ids) || f.ID != ids[i] {
				b.Errorf("%+v: position %d holds %s", want, i, f.ID)
			}
		}
		if len(list) != len(ids) {
			b.Errorf("%+v: %d files", want, len(list))
		}
	}
	page(tenantdb.FileFilter{Limit: 2}, ids[2], ids[1])
	page(tenantdb.FileFilter{Limit: 2, After: ids[1], Purpose: tenantdb.PurposeFineTune}, ids[0])
	page(tenantdb.FileFilter{Limit: 9, Ascending: true}, ids...)
	page(tenantdb.FileFilter{Limit: 9, Ascending: true, After: ids[0]}, ids[1:]...)
	page(tenantdb.FileFilter{Limit: 9, Purpose: tenantdb.PurposeUserData})
}

// The limit is exact, however many end at a time.
func (b *tuning) storageLimit() {
	ctx := b.Context()
	var taken, limit int64
	for range 8 {
		var err error
		taken, err = b.db.StoredBytes(ctx)
		b.ok(err)
		limit = taken + 250
		var files []tenantdb.File
		for range 4 {
			f := b.uploading()
			f.Bytes, f.Sum = 100, make([]byte, 32)
			files = append(files, f)
		}
		var stored atomic.Int64
		b.atOnce(len(files), func(db *tenantdb.DB, i int) {
			if _, err := db.EndFile(ctx, alice, files[i], limit); err == nil {
				stored.Add(1)
			} else if !errors.Is(err, tenantdb.ErrStorageFull) {
				b.Error(err)
			}
		})
		if n, err := b.db.StoredBytes(ctx); err != nil || n != taken+200 || stored.Load() != 2 {
			b.Errorf("%d stored: %d bytes of %d, %v", stored.Load(), n, limit, err)
		}
		b.exec("delete from freehold.files where state = 'uploading'")
	}
	// One on its way that began earlier has its part already; one that began later
	// has none.
	earlier := tenantdb.File{ID: uuid.Must(uuid.NewV7()), Purpose: tenantdb.PurposeUserData, Bytes: 30}
	b.ok(b.db.BeginFile(ctx, earlier))
	f := b.uploading()
	f.Bytes, f.Sum = 40, make([]byte, 32)
	_, err := b.db.EndFile(ctx, alice, f, limit)
	b.is(err, tenantdb.ErrStorageFull)
	earlier.Sum = f.Sum
	_, err = b.db.EndFile(ctx, alice, earlier, limit)
	b.ok(err)
	f.Bytes = 20
	_, err = b.db.EndFile(ctx, alice, f, limit)
	b.ok(err)
	b.exec("delete from freehold.files")
}

func (b *tuning) expiry() {
	ctx := b.Context()
	f := b.file()
	b.exec("update freehold.files set expires_at = now() - interval '1 second' where id = $1", f.ID)
	_, err := b.db.FileByID(ctx, f.ID)
	b.is(err, tenantdb.ErrNotFound)
	if list, err := b.db.Files(ctx, tenantdb.FileFilter{Limit: 10}); err != nil || len(list) != 0 {
		b.Errorf("lists %+v, %v", list, err)
	}
	b.is(b.db.RemoveFile(ctx, alice, f.ID), tenantdb.ErrNotFound)
	b.ok(b.worker.RemoveFile(ctx, tenantdb.Actor{Actor: tenantdb.ActorSystem, Audit: true}, f.ID))
	if told := b.audit("file-" + f.ID.String()); len(told) != 2 || told[1] != `system file.delete  {"purpose" : "fine-tune"}` {
		b.Errorf("audit %q", told)
	}
	b.exec("delete from freehold.files")
}

// leftovers are found by a sweep, and only when nobody needs them.
func (b *tuning) leftovers() {
	ctx := b.Context()
	young, abandoned, expired, removed, needed := b.uploading(), b.uploading(), b.file(), b.file(), b.file()
	kept := b.file()
	b.exec("update freehold.files set created_at = now() - interval '61 minutes' where id = any($1)", []uuid.UUID{abandoned.ID, kept.ID})
	asked := b.asked()
	asked.TrainingFile = needed.ID
	job, _, err := b.db.CreateJob(ctx, alice, asked, 0)
	b.ok(err)
	b.exec("update freehold.files set expires_at = now() where id = any($1)", []uuid.UUID{expired.ID, needed.ID})
	b.ok(b.db.RemoveFile(ctx, alice, removed.ID))
	stale := func(want ...tenantdb.File) {
		b.Helper()
		list, err := b.worker.StaleFiles(ctx, time.Hour)
		b.ok(err)
		got := map[uuid.UUID]bool{}
		for _, f := range list {
			got[f.ID] = true
		}
		for _, f := range want {
			if !got[f.ID] {
				b.Errorf("%s isn't stale", f.ID)
			}
		}
		if len(list) != len(want) {
			b.Errorf("stale: %+v", list)
		}
	}
	stale(abandoned, expired, removed)
	// An upload that was given up becomes no file any more.
	abandoned.Sum = make([]byte, 32)
	_, err = b.db.EndFile(ctx, alice, abandoned, noLimit)
	b.is(err, tenantdb.ErrNotFound)
	young.Sum = abandoned.Sum
	_, err = b.db.EndFile(ctx, alice, young, noLimit)
	b.ok(err)
	_, err = b.db.CancelJob(ctx, alice, job.ID)
	b.ok(err)
	stale(abandoned, expired, removed, needed)

	// Jobs, by when they ended and how long they haven't.
	if list, err := b.worker.UnclearedJobs(ctx, time.Hour); err != nil || len(list) != 0 {
		b.Errorf("ended just now: %+v, %v", list, err)
	}
	b.exec("update freehold.fine_tuning_jobs set finished_at = now() - interval '61 minutes'")
	list, err := b.worker.UnclearedJobs(ctx, time.Hour)
	b.ok(err)
	if len(list) != 1 || list[0].ID != job.ID || list[0].Made || list[0].Artifact != "" {
		b.Errorf("ended: %+v", list)
	}
	b.ok(b.worker.ClearedJob(ctx, job.ID))
	if list, err := b.worker.UnclearedJobs(ctx, time.Hour); err != nil || len(list) != 0 {
		b.Errorf("cleared: %+v, %v", list, err)
	}
	open := b.job()
	if list, err := b.worker.OpenJobs(ctx, time.Minute); err != nil || len(list) != 0 {
		b.Errorf("of this minute: %+v, %v", list, err)
	}
	b.exec("update freehold.fine_tuning_jobs set created_at = now() - interval '2 minutes'")
	if list, err := b.worker.OpenJobs(ctx, time.Minute); err != nil || len(list) != 1 || list[0].ID != open.ID || list[0].Trainer != "builtin" {
		b.Errorf("open: %+v, %v", list, err)
	}
	_, err = b.db.CancelJob(ctx, alice, open.ID)
	b.ok(err)
	b.exec("delete from freehold.files")
}
