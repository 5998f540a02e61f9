package fleet

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// wasTable holds the backup's rows of a table while those of today take their place.
func wasTable(table string) string { return "restore_was_" + table }

// things makes files, jobs and models what they are now, and brings back those that
// are missing now, as far as their objects are there.
func (c *carrying) things(ctx context.Context) error {
	columns := map[string]string{}
	for _, table := range carriedThings {
		list, err := columnsOf(ctx, c.to, table)
		if err != nil {
			return err
		}
		columns[table] = strings.Join(list, ", ")
		_, err = c.to.Exec(ctx, "create temporary table "+wasTable(table)+" on commit drop as select "+columns[table]+" from "+freeholdTable(table))
		if err != nil {
			return err
		}
	}
	if err := c.empty(ctx, carriedThings); err != nil {
		return err
	}
	if c.from != nil {
		for _, table := range carriedThings {
			if _, err := c.copyTable(ctx, table, ""); err != nil {
				return err
			}
		}
	}
	if err := c.leaveOut(ctx); err != nil {
		return err
	}
	for _, back := range []struct {
		table, where string
		count        *int64
	}{
		{"fine_tuning_jobs", "", &c.done.Jobs},
		{"fine_tuning_events", whereJob, nil},
		{"fine_tuning_checkpoints", whereJob, nil},
		{"models", " where exists (select from freehold.fine_tuning_jobs j where j.id = w.id)", &c.done.Models},
		{"files", "", &c.done.Files},
	} {
		tag, err := c.to.Exec(ctx, "insert into "+freeholdTable(back.table)+" ("+columns[back.table]+") select "+columns[back.table]+
			" from "+wasTable(back.table)+" w"+back.where+" on conflict do nothing")
		if err != nil {
			return fmt.Errorf("%s: %w", back.table, err)
		}
		if back.count != nil {
			*back.count = tag.RowsAffected()
		}
	}
	return nil
}

const whereJob = " where exists (select from freehold.fine_tuning_jobs j where j.id = w.job)"

const (
	// An upload that isn't whole has no bytes, and what was removed since stays so, as
	// far as it is told.
	dropUnwantedFiles = `
delete from restore_was_files w
 where w.state <> 'processed' or exists (select from freehold.files f where f.id = w.id)
    or exists (select from freehold.audit_log a where a.action = 'file.delete' and a.subject = 'file-' || w.id::text)`
	dropUnwantedModels = `
delete from restore_was_models w
 where w.state <> 'ready' or exists (select from freehold.models m where m.id = w.id or m.name = w.name)
    or exists (select from freehold.audit_log a where a.action = 'model.delete' and a.subject = w.name)`

	// Nobody is at work on a job that only a backup knows.
	endLostJobs = `
update restore_was_fine_tuning_jobs w set state = 'cancelled', finished_at = now()
 where w.finished_at is null and not exists (select from freehold.fine_tuning_jobs j where j.id = w.id)`

	selectWasFiles  = `select w.id, w.bytes, ''::text from restore_was_files w where w.id > $1 order by w.id limit $2`
	selectWasModels = `select w.id, w.bytes, w.artifact from restore_was_models w where w.id > $1 order by w.id limit $2`
)

// leaveOut takes from the backup's rows those that nothing is there for any more.
func (c *carrying) leaveOut(ctx context.Context) error {
	for _, sql := range []string{dropUnwantedFiles, dropUnwantedModels, endLostJobs} {
		if _, err := c.to.Exec(ctx, sql); err != nil {
			return err
		}
	}
	objects := c.blob.Tenant(c.tenant.ID)
	var err error
	c.done.LostFiles, err = dropLost(ctx, c.to, "files", selectWasFiles, func(w wasThing) (bool, error) {
		return objectThere(ctx, objects, tenantdb.FileKey(w.ID), w.Bytes)
	})
	if err != nil {
		return err
	}
	c.done.LostModels, err = dropLost(ctx, c.to, "models", selectWasModels, func(w wasThing) (bool, error) {
		return artifactThere(ctx, objects, w)
	})
	return err
}

// wasThing is a row of the backup's whose bytes are objects.
type wasThing struct {
	ID       uuid.UUID
	Bytes    int64
	Artifact string // a model's prefix; empty: it has none here
}

// dropLost removes the rows whose objects aren't there, and counts them.
func dropLost(ctx context.Context, tx pgx.Tx, table, sql string, there func(wasThing) (bool, error)) (lost int64, err error) {
	after := uuid.Nil
	for {
		rows, _ := tx.Query(ctx, sql, after, page) // its error is in rows
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[wasThing])
		if err != nil || len(list) == 0 {
			return lost, err
		}
		after = list[len(list)-1].ID
		for _, w := range list {
			ok, err := there(w)
			if err != nil {
				return lost, err
			}
			if ok {
				continue
			}
			if _, err := tx.Exec(ctx, "delete from "+wasTable(table)+" where id = $1", w.ID); err != nil {
				return lost, err
			}
			lost++
		}
	}
}

// objectThere looks for an object of that size.
func objectThere(ctx context.Context, objects *blob.Objects, key string, bytes int64) (there bool, err error) {
	err = objects.List(ctx, key, func(o blob.Object) error {
		there = there || o.Key == key && o.Size == bytes
		return nil
	})
	return there, storeError(ctx, err)
}

// artifactThere looks for a model's objects. One that is served elsewhere has none.
func artifactThere(ctx context.Context, objects *blob.Objects, w wasThing) (bool, error) {
	if w.Artifact == "" {
		return true, nil
	}
	if !strings.HasPrefix(w.Artifact, tenantdb.ModelPrefix(w.ID)) {
		return false, nil
	}
	total, err := objects.Total(ctx, strings.TrimSuffix(w.Artifact, "/")+"/")
	return total.Objects > 0 && total.Bytes >= w.Bytes, storeError(ctx, err)
}
