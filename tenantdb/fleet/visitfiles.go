package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

const (
	// uploadTime is for how long a file may be on its way: longer than any request.
	uploadTime = time.Hour
	// endedTime is after how long a job that ended has no worker any more, so that
	// what its work needed can go.
	endedTime = time.Hour
	// lostTime is after how long a job has surely been enqueued, if it ever was.
	lostTime = 10 * time.Minute
	// tidyTime is after how long the rest is left to the next visit.
	tidyTime = 15 * time.Second
	// tidyFailures is how many of a list may fail: one that can't be removed keeps no
	// other, and a store that went away isn't waited for again and again.
	tidyFailures = 3
	// leftAgain is when somebody looks again at what couldn't go yet.
	leftAgain = time.Hour
	// nextDaily is when there has surely been a daily visit.
	nextDaily = 25 * time.Hour
)

// tidy removes what is left of files, models and jobs: from the object store first,
// and from the database when it is gone there, so that whoever is stopped in between
// is followed by somebody who finds it. It enqueues jobs that the queue has lost.
func (v *visit) tidy(ctx context.Context, r *report) {
	r.part(ctx, "files", v.dropFiles(ctx, r))
	r.part(ctx, "removed models", v.dropModels(ctx, r))
	r.part(ctx, "ended jobs", v.clearJobs(ctx, r))
	r.part(ctx, "lost jobs", v.enqueueLost(ctx))
}

// objects is the tenant's part of the store. ErrStore when none is configured, or it
// didn't answer before: a visit waits for it once.
func (v *visit) objects() (*blob.Objects, error) {
	if v.blob == nil {
		return nil, fmt.Errorf("%w: none is configured", ErrStore)
	}
	if v.away {
		return nil, ErrStore
	}
	return v.blob.Tenant(v.tenant.ID), nil
}

// each runs remove for all of list, but for a few that fail, and returns the first
// error. What is left then, and what the list had no room for, is for the next visit.
func each[T any](ctx context.Context, v *visit, r *report, list []T, remove func(*blob.Objects, T) error) error {
	if len(list) == 0 {
		return nil
	}
	objects, err := v.objects()
	if err != nil {
		return err
	}
	r.busy = true
	var first error
	failed := 0
	for began := time.Now(); len(list) > 0 && failed < tidyFailures && time.Since(began) < tidyTime; list = list[1:] {
		if err := ctx.Err(); err != nil {
			return errors.Join(first, err)
		}
		if err := remove(objects, list[0]); err != nil {
			if failed++; first == nil {
				first = err
			}
		}
	}
	return first
}

// dropFiles removes uploads that were never finished, files that are being deleted,
// and those that have expired.
func (v *visit) dropFiles(ctx context.Context, r *report) error {
	list, err := v.db.StaleFiles(ctx, uploadTime)
	if err != nil || len(list) == 0 {
		return err
	}
	cfg, err := v.cat.TenantConfig(ctx, v.tenant.ID)
	if err != nil {
		return err
	}
	who := tenantdb.Actor{Actor: tenantdb.ActorSystem, Audit: cfg.AuditLogEnabled}
	return each(ctx, v, r, list, func(objects *blob.Objects, f tenantdb.File) error {
		if f.State == tenantdb.FileProcessed { // it has expired
			err := v.db.RemoveFile(ctx, who, f.ID)
			if errors.Is(err, tenantdb.ErrInUse) || errors.Is(err, tenantdb.ErrNotFound) {
				return nil // by a job of this moment; by somebody who was quicker
			}
			if err != nil {
				return err
			}
		}
		key := tenantdb.FileKey(f.ID)
		err := objects.AbortUploads(ctx, key)
		if err == nil {
			err = objects.Delete(ctx, key)
		}
		if err != nil {
			return storeError(ctx, err)
		}
		return v.db.DropFile(ctx, f.ID)
	})
}

// dropModels removes the objects of models that were removed.
func (v *visit) dropModels(ctx context.Context, r *report) error {
	list, err := v.db.StaleTunedModels(ctx)
	if err != nil {
		return err
	}
	return each(ctx, v, r, list, func(objects *blob.Objects, m tenantdb.TunedModel) error {
		if err := objects.DropPrefix(ctx, tenantdb.ModelPrefix(m.ID)); err != nil {
			return storeError(ctx, err)
		}
		return v.db.DropTunedModel(ctx, m.ID)
	})
}

// clearJobs removes what only the work of jobs needed that have ended: checkpoints,
// what was staged, and each artifact but that of the model that is there.
func (v *visit) clearJobs(ctx context.Context, r *report) error {
	list, err := v.db.UnclearedJobs(ctx, endedTime)
	if err != nil {
		return err
	}
	return each(ctx, v, r, list, func(objects *blob.Objects, j tenantdb.EndedJob) error {
		prefix := tenantdb.ModelPrefix(j.ID)
		var keep []string
		if j.Artifact != "" {
			keep = append(keep, strings.TrimSuffix(j.Artifact, "/")+"/")
			if !strings.HasPrefix(keep[0], prefix) {
				return fmt.Errorf("the artifact of model %s isn't under its job's prefix", j.ID)
			}
		}
		if err := objects.DropPrefix(ctx, prefix, keep...); err != nil {
			return storeError(ctx, err)
		}
		return v.db.ClearedJob(ctx, j.ID)
	})
}

// enqueueLost enqueues the jobs that have no work in the catalog: whoever made them
// was stopped between the two, or the catalog comes from a backup. To be in the queue
// twice is to be there once.
func (v *visit) enqueueLost(ctx context.Context) error {
	if v.tenant.State != catalog.Active {
		return nil // after its resumption
	}
	list, err := v.db.OpenJobs(ctx, lostTime)
	if err != nil {
		return err
	}
	for _, j := range list {
		err := v.cat.EnqueueAgain(ctx, catalog.WorkSpec{ID: j.ID.String(), Tenant: v.tenant.ID, Trainer: j.Trainer})
		if errors.Is(err, catalog.ErrConflict) {
			return nil // it isn't active any more
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// What is past already and there still couldn't go: a file in use, or what a part of
// this visit failed with. A job that is old enough to be enqueued was looked after.
const selectTidy = `
select extract(epoch from least(
           (select min(case f.state when 'uploading' then f.created_at + $1::interval else now() end)
              from freehold.files f where f.state <> 'processed'),
           (select min(f.expires_at) from freehold.files f where f.expires_at is not null),
           (select now() from freehold.models m where m.state = 'deleting' limit 1),
           (select min(j.finished_at) + $2::interval from freehold.fine_tuning_jobs j where not j.cleared),
           (select min(j.created_at) + $3::interval from freehold.fine_tuning_jobs j
             where j.finished_at is null and j.created_at > now() - $3::interval)) - now())::float8`

// untidy is when something is to be tidied here again; nil: within a day nothing, as
// far as one can know, and then it is a daily visit's.
func (v *visit) untidy(ctx context.Context) (*time.Duration, error) {
	var seconds *float64
	if err := v.conn.QueryRow(ctx, selectTidy, uploadTime, endedTime, lostTime).Scan(&seconds); err != nil || seconds == nil {
		return nil, translate(ctx, err)
	}
	in := leftAgain
	if *seconds > nextDaily.Seconds() {
		return nil, nil
	}
	if *seconds > 0 {
		in = time.Duration((*seconds + 1) * float64(time.Second))
	}
	return &in, nil
}
