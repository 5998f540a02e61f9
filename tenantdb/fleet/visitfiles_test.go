package fleet_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

var key = tenantdb.Actor{Actor: "key:key_1", RequestID: "req_1", Audit: true}

// api is the tenant's database as its nodes see it.
func (w *ward) api() *tenantdb.DB { return tenantdb.On(w.node, w.Epoch) }

// file is a file with its object.
func (w *ward) file() uuid.UUID {
	w.Helper()
	f := tenantdb.File{ID: uuid.Must(uuid.NewV7()), Purpose: tenantdb.PurposeFineTune, Name: "f", Bytes: 4, Sum: make([]byte, 32)}
	w.ok(w.api().BeginFile(w.Context(), f))
	w.put(tenantdb.FileKey(f.ID))
	_, err := w.api().EndFile(w.Context(), key, f, 1<<40)
	w.ok(err)
	return f.ID
}

func (w *ward) put(keys ...string) {
	w.Helper()
	for _, k := range keys {
		w.ok(w.store.Tenant(w.ID).Put(w.Context(), k, strings.NewReader("text")))
	}
}

// job is one of a file of its own.
func (w *ward) job() tenantdb.Job {
	w.Helper()
	id := uuid.Must(uuid.NewV7())
	j, _, err := w.api().CreateJob(w.Context(), key, tenantdb.Job{
		ID: id, Base: "m", Trainer: "builtin", Model: "ft:m:acme::" + id.String(), TrainingFile: w.file(), APIKey: "key_1", RequestHash: []byte("h"),
	}, 0)
	w.ok(err)
	return j
}

// objects are what lies under the tenant's prefix, but for its marker.
func (w *ward) objects() (keys []string) {
	w.Helper()
	w.ok(w.store.Tenant(w.ID).List(w.Context(), "", func(o blob.Object) error {
		if o.Key != blob.Marker {
			keys = append(keys, o.Key)
		}
		return nil
	}))
	return keys
}

// dueIn is when the tenant is visited next.
func (w *ward) dueIn() time.Duration {
	w.Helper()
	return time.Duration(one[float64](w.bench, w.catalogDB(), "select extract(epoch from least(due_at, now() + interval '1 year') - now())::float8 from tenant_due where tenant = $1", w.ID) * float64(time.Second))
}

// What uploads, files, models and jobs have left goes: from the store, and only then
// from the database.
func TestVisitTidies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, away := b.unsteady()
	w := b.ward(store)
	ctx := t.Context()
	worker := func(fn func(db *tenantdb.DB) error) {
		t.Helper()
		w.ok(w.fleet.InTenant(ctx, w.ID, func(_ context.Context, _ catalog.Tenant, db *tenantdb.DB) error { return fn(db) }))
	}

	kept, removed, expired, abandoned := w.file(), w.file(), w.file(), uuid.Must(uuid.NewV7())
	w.ok(w.api().RemoveFile(ctx, key, removed))
	w.exec("update freehold.files set expires_at = now() where id = $1", expired)
	w.ok(w.api().BeginFile(ctx, tenantdb.File{ID: abandoned, Purpose: tenantdb.PurposeUserData}))
	w.put(tenantdb.FileKey(abandoned))

	made, gone, failed, young := w.job(), w.job(), w.job(), w.job()
	prefix := func(j tenantdb.Job) string { return tenantdb.ModelPrefix(j.ID) }
	for _, j := range []tenantdb.Job{made, gone, failed, young} {
		w.put(prefix(j)+"a1/model", prefix(j)+"a2/model", prefix(j)+"checkpoints/c", prefix(j)+"staging/s")
	}
	worker(func(db *tenantdb.DB) error {
		for _, j := range []tenantdb.Job{made, gone} {
			if _, err := db.ClaimJob(ctx, j.ID, 1); err != nil {
				return err
			}
			if err := db.FinishJob(ctx, key, j.ID, 1, tenantdb.Finish{Model: tenantdb.TunedModel{Artifact: prefix(j) + "a1/"}}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, j := range []tenantdb.Job{failed, young} {
		_, err := w.api().CancelJob(ctx, key, j.ID)
		w.ok(err)
	}
	w.exec("update freehold.fine_tuning_jobs set finished_at = now() - interval '61 minutes' where id <> $1", young.ID)
	_, err := w.api().RemoveTunedModel(ctx, key, gone.Model)
	w.ok(err)
	lost, fresh := w.job(), w.job()
	w.exec("update freehold.fine_tuning_jobs set created_at = now() - interval '11 minutes' where id = $1", lost.ID)
	before := w.objects()

	// Without the store nothing changes but that an upload is not too old by now.
	away.Store(true)
	w.visit()
	away.Store(false)
	if n := w.note(); !strings.Contains(n.Error, "; files: the object store can't be used; removed models: the object store can't be used; ended jobs: the object") {
		t.Errorf("%+v", n)
	}
	if got := w.objects(); !slices.Equal(got, before) || w.count("freehold.models") != 2 || w.count("freehold.fine_tuning_jobs where cleared") != 0 {
		t.Errorf("objects %q", got)
	}
	w.exec("update freehold.files set created_at = now() - interval '61 minutes' where id = any($1)", []uuid.UUID{abandoned, kept})
	w.visit()
	if n := w.note(); n.Error != "" {
		t.Errorf("%+v", n)
	}
	want := []string{
		prefix(made) + "a1/model", prefix(young) + "a1/model", prefix(young) + "a2/model", prefix(young) + "checkpoints/c", prefix(young) + "staging/s",
	}
	for _, id := range []uuid.UUID{kept, made.TrainingFile, gone.TrainingFile, failed.TrainingFile, young.TrainingFile, lost.TrainingFile, fresh.TrainingFile} {
		want = append(want, tenantdb.FileKey(id))
	}
	slices.Sort(want)
	if got := w.objects(); !slices.Equal(got, want) {
		t.Errorf("left %q\nwant %q", got, want)
	}
	if n := w.count("freehold.files"); n != 7 {
		t.Errorf("%d files", n)
	}
	if n := w.count("freehold.models"); n != 1 {
		t.Errorf("%d models", n)
	}
	if n := w.count("freehold.fine_tuning_jobs where cleared"); n != 3 {
		t.Errorf("%d jobs are cleared", n)
	}
	if n := w.count("freehold.audit_log where action = 'file.delete' and actor = 'system' and subject = 'file-' || $1::text", expired); n != 1 {
		t.Errorf("the audit tells %d times of the file that has expired", n)
	}
	queued := one[string](w.bench, w.catalogDB(), "select string_agg(id || ' ' || trainer || ' ' || (tenant = $1), ',') from work_queue", w.ID)
	if queued != lost.ID.String()+" builtin true" {
		t.Errorf("in the queue: %s, want %s", queued, lost.ID)
	}

	// It comes again when there is something to do, and sleeps when there is nothing.
	_, err = w.catalogDB().Exec(ctx, "update tenant_due set rolled_to = now() + interval '10 minutes'")
	w.ok(err)
	w.visit() // seals what the audit was told
	again := func(in time.Duration) {
		t.Helper()
		w.visit()
		if got := w.dueIn(); got > in || got < in-time.Minute {
			t.Errorf("due in %s, want %s", got, in)
		}
	}
	again(10*time.Minute + time.Second) // the new job's work must be in the queue then
	w.exec("update freehold.fine_tuning_jobs set created_at = now() - interval '11 minutes' where id = $1", fresh.ID)
	again(time.Hour + time.Second) // the young one ended just now
	if n := one[int](w.bench, w.catalogDB(), "select count(*)::int from work_queue"); n != 2 {
		t.Errorf("%d in the queue", n)
	}
	w.exec("update freehold.files set expires_at = now() + interval '50 minutes' where id = $1", kept)
	again(50*time.Minute + time.Second)
	w.exec("update freehold.files set expires_at = now() + interval '50 days'; update freehold.fine_tuning_jobs set cleared = true")
	again(365 * 24 * time.Hour)

	w.inTenant()
}

// inTenant is what workers get into a tenant's database by, and when.
func (w *ward) inTenant() {
	ctx, t := w.Context(), w.TB
	t.Helper()
	calls := 0
	err := w.fleet.InTenant(ctx, w.ID, func(ctx context.Context, tenant catalog.Tenant, db *tenantdb.DB) error {
		if calls++; calls == 1 { // its truth moves on meanwhile
			if _, err := w.fleet.PatchConfig(ctx, w.ID, catalog.ConfigPatch{PredictionLogRetentionDays: new(7)}); err != nil {
				return err
			}
		} else if tenant.Epoch <= w.Epoch || tenant.Slug != "acme" {
			t.Errorf("called again with %+v", tenant)
		}
		_, err := db.ClaimJob(ctx, uuid.Must(uuid.NewV7()), 1) // which the tenant's role may not
		return err
	})
	if !errors.Is(err, tenantdb.ErrNotFound) || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
	calls = 0
	err = w.fleet.InTenant(ctx, w.ID, func(context.Context, catalog.Tenant, *tenantdb.DB) error {
		calls++
		return tenantdb.ErrFenced
	})
	if !errors.Is(err, tenantdb.ErrFenced) || calls != 3 {
		t.Errorf("%v after %d calls", err, calls)
	}
	never := func(context.Context, catalog.Tenant, *tenantdb.DB) error {
		t.Error("called")
		return nil
	}
	set := func(sql string) {
		t.Helper()
		_, err := w.catalogDB().Exec(ctx, sql)
		w.ok(err)
	}
	set("update tenants set schema_version = 4")
	if err := w.fleet.InTenant(ctx, w.ID, never); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("an old schema: %v", err)
	}
	set("update tenants set schema_version = 5, state = 'suspended'")
	if err := w.fleet.InTenant(ctx, w.ID, never); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("suspended: %v", err)
	}
	if err := w.fleet.InTenant(ctx, catalog.NewTenantID(), never); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
}
